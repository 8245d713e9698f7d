"""Prefect tasks; the logic that they call is in ``core``."""
