"""What a run did, as text, page and picture."""
