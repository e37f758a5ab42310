"""Verbs: plan, work, isolate, report."""
