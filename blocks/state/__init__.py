"""The state of a job, stored in Prefect."""
