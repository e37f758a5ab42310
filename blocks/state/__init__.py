"""Where a job stands, kept in Prefect."""
