"""Whether source = sink + filtered + letters."""
