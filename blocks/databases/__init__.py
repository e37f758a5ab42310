"""Tables and queries of SQL databases: what is true of every database. What one does its own way is in its folder.

A further database is a folder with its `Dialect`, and a line in `known_dialects`.
"""
