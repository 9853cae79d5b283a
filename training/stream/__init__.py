"""The stream side: consumers of the event log, running all the time."""
