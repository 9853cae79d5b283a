"""What a feature is: schemas, event log, session window, batch statistics and the ranking matrix."""
