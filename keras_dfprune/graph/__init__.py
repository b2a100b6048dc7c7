"""Read, copy and run Keras models: the only folder that knows how Keras is made."""
