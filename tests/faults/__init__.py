"""What networks and systems do to connections, done on purpose, to every driver."""
