"""What a run tells at its end: counts that add up, a report, and the ways to show it.

Nothing in here decides anything.
"""
