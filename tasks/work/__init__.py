"""The work on one chunk."""
