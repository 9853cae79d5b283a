"""How good are the slates? Replayed requests, their metrics, tuned baselines, ablations and the report on them."""
