"""Make the files of a new job, to run at once and to change."""
