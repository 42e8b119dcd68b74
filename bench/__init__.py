"""Measured claims, each one command that ends with one JSON line."""
