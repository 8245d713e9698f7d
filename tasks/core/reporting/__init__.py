"""The report of a run: counts that add up, the report, and the ways to show it.

Nothing in here decides anything.
"""
