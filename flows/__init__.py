"""The Prefect flow, the demo and the command line."""
