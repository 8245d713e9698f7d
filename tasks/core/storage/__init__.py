"""Files on any filesystem: finding, reading, and publishing each in one step.

What a file contains is not decided here.
"""
