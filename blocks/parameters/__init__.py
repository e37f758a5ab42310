"""What a person writes: tables, queries, files, limits. Frozen values that check themselves and open nothing."""
