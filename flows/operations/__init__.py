"""What a person asks of a job from outside: status, history, stop, tune, failures, decisions, reset, preview."""
