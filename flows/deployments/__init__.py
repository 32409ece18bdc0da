"""What Prefect runs: flows, their schedules, and the server that they report to."""
