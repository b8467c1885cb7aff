"""Model how a clean image becomes a measurement: operators and noise."""
