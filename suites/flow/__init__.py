"""Gradient flow with depth: stacks of a variant, what is measured in them, and what theory says."""
