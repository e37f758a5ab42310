"""Defines each kind of value once: its Arrow type, its Python values, its text and its JSON."""
