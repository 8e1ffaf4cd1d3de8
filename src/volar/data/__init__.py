"""Demonstrations on disk: read, write, normalise."""
