"""Calls to the deployment: the client, what answers mean, and what every call costs, counted as it is sent.

LlamaIndex and openai are imported by ``llm`` alone.
"""
