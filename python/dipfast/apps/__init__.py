"""Faces: the command line, and pictures of results."""
