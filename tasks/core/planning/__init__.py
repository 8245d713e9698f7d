"""What a run would do: how every partition stands, what is wrong with it, what it costs.

Nothing in here spends a cent.
"""
