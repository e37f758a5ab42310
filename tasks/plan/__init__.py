"""Which pass, and which chunks come next."""
