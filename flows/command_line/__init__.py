"""The commands of `prefect-batch`, one module per group."""
