"""Weights of other systems: layouts and errors by arrays, no other system needed."""
