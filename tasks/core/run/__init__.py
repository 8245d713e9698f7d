"""A run, written once: from a ``RunSpec`` to a report, with Prefect or without."""
