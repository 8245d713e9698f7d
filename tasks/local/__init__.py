"""Local stand-ins: an Azure OpenAI endpoint on loopback and sample partitions.

The demo, tests and benchmarks use this package; the product never imports it. It imports neither Prefect nor
`tasks.core`, and uses loopback addresses only.
"""
