"""A directory, local or in an object store, in which a file appears whole or not at all."""
