"""The chat: rooms, private messages, history and resume over any wire, on any driver; and a text port for ``nc``.

`hub` and `client` are its two sides, state machines without a socket; `host` runs a hub for servers; `text` is the text port.
"""
