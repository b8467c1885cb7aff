"""Reproduce tables and figures of the Deep Image Prior and the two-stage papers."""
