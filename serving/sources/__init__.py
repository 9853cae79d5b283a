"""Sources of candidates: each looks for items in its own way."""
