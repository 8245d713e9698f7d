"""Requests to a model: the client, the interpretation of replies, budget, metering and metrics.

Only ``client`` imports LlamaIndex and openai.
"""
