"""Which dead letters are meant, and why they failed."""
