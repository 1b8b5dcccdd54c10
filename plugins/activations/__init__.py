"""Activations: y = φ(x)."""
