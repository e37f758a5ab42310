"""Run a function over every record of a large table, so that it survives bad records, crashes and restarts."""
