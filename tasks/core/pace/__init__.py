"""When a request may start: how many are in flight, how fast they go, and when to wait or to give up.

Nothing in here knows what a request is about.
"""
