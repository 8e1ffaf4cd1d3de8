"""Tensor mathematics with no opinion about robots."""
