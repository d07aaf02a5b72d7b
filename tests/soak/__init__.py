"""The soak: every server driver under load and faults, for as long as asked. ``python -m tests.soak --help``."""
