"""Restore one image: from settings to a job, and from a job to its outcome."""
