"""Attention mechanisms: o from queries, keys and values."""
