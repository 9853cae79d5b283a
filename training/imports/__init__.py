"""Bringing a shop's own files into the archive and the catalog."""
