"""Sentences: the flows and the command line."""
