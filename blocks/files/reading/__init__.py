"""Files as sources: ranges of rows or of bytes."""
