"""Fit an untrained network to one measurement: the loop, its network, stages and methods."""
