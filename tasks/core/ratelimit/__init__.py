"""Rate limiting of requests to one deployment: how many at once, how fast, and when to wait or stop.

A refusal is a reply with status 429. Refusals of requests that were in flight together form one episode. The
content of requests is not used here.
"""
