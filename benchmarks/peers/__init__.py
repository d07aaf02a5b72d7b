"""The peers: each does the same work the way its own documentation says, on its own fastest path."""
