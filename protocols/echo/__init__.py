"""Echo: every message comes back, as it came and in its order. The smallest service, and the first test of any link.

from framing import Wire
from framing.drivers import blocking
from protocols.echo import Echo

with blocking.Server("tcp://127.0.0.1:9000", Wire.parse("u32+json"), Echo()) as server:
    server.run()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framing.drivers.service import Peer

__all__ = ["Echo"]


class Echo:
    """Sends each message back. It keeps nothing, so one instance serves any number of peers."""

    def received(self, peer: Peer[Any], message: Any) -> None:
        """Send ``message`` back to the ``peer`` that it came from."""
        peer.send(message)
