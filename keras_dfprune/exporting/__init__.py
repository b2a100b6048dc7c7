"""Write models to files for deployment, each read back and compared with the model."""
