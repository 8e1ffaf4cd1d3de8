"""Tests, intervals and designs for success rates: arithmetic only; knows no file, no environment and no policy."""
