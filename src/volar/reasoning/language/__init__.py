"""Language Movement Primitives (arXiv 2602.02839): what a language model is asked, how its answer becomes a motion, and
who judges it. The policy itself is in `policies/language_primitives.py`."""
