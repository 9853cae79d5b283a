"""Slates by their deadline: what is left out when time runs short."""
