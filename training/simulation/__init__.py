"""A shop whose truth is known, to measure recommenders against the best possible."""
