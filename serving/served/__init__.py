"""What is written down of slates: the served log, and the states that they were made from."""
