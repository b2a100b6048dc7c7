"""Write models to files for deployment, read each back and compare it with the model."""
