"""Does B really beat A? What is fixed beforehand, run, counted and concluded; a folder `volar compare` writes."""
