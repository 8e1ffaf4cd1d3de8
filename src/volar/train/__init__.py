"""Imitation learning: one readable loop."""
