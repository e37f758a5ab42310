"""Dead letters: buried, read, decided on, replayed, purged."""
