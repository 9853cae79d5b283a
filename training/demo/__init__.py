"""The whole platform on one machine: its processes, and a shopper that shows what it does."""
