"""Requests answered again as they were, and why an item was not in a slate."""
