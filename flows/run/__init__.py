"""One run of a job, from its checks to its end."""
