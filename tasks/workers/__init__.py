"""Worker processes below the Prefect tasks."""
