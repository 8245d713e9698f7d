"""Files on any filesystem: where things are, what is there, and how a finished file appears in one step.

Nothing in here knows what is inside a file.
"""
