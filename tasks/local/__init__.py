"""Local stand-ins: an Azure OpenAI endpoint on loopback and sample partitions.

Demo, tests and benchmarks use what lives here; the product never imports it and cannot tell it is there.
Nothing here imports Prefect or `tasks.core`, and nothing listens on or connects to anything but loopback.
"""
