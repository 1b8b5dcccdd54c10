"""Variants inside the models of transformers: swapping them in, training them, what it costs."""
