"""Files as sinks: a part per chunk, published by one manifest."""
