"""The loop, and what it is made of: network, stages, methods."""
