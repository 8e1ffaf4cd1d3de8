"""The checks of a data set, one function each; `volar.data.check` is their table."""
