"""Backbone + decoder = policy; policy + normalisation = Actor."""
