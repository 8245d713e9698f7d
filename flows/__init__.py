"""The runs: the flow, the demo and the command line."""
