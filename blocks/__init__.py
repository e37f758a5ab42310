"""Nouns: values, sources, sinks, dead letters and the cursor.

Prefect loads this module in servers and workers to register the blocks of this package, so it stays light.
"""
