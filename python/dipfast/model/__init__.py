"""The forward model: operators and noise."""
