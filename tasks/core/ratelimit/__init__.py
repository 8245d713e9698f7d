"""When a request may start: how many are in flight, how fast they go, and when to wait or to give up.

What a request is about is not used here.
"""
