"""The work: thin Prefect tasks here, everything they know in ``core``."""
