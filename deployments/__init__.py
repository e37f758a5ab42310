"""The calendar: deployments and schedules, no logic."""
