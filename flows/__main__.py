"""The command line as ``python -m prefect_batch.flows``."""

from prefect_batch.flows.command_line.main import main

main()
