"""The offline side: import, simulate, train, evaluate, publish, and the command line."""
