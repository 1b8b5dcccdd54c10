"""Connections: how a branch joins its input."""
