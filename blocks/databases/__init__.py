"""SQL databases: the code that works for every database, with a folder for what differs in each.

To add a database, add a folder with its `Dialect` and a line in `known_dialects`.
"""
