"""Who may ask what, how often, and how much at once."""
