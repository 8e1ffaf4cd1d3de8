"""What every other folder speaks. Free of torch until `volar.core.model` or `volar.core.checkpoint` is imported."""
