"""What values are, said once: for each kind its Arrow type, its Python values, its text and its JSON."""
