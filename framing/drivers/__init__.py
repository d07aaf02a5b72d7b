"""Drivers: each moves bytes between a channel and a socket in its own way, and adds nothing to what a wire means."""
