"""Artifacts, events, alerts and hooks."""
