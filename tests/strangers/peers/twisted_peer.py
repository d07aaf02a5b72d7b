"""A program of Twisted's, with its reactor: an echo server for each of its receivers, or a client that asks one.

``python twisted_peer.py`` says the name and port of each server; ``python twisted_peer.py NAME PORT COUNT`` sends payloads and
ends well if all of them came back.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import protocol, reactor
from twisted.protocols.basic import (
    Int8StringReceiver,
    Int16StringReceiver,
    Int32StringReceiver,
    LineReceiver,
    NetstringReceiver,
)

RECEIVERS = {
    "int8": Int8StringReceiver,
    "int16": Int16StringReceiver,
    "int32": Int32StringReceiver,
    "netstring": NetstringReceiver,
    "line": LineReceiver,
}


def sender(one: Any) -> Any:
    return getattr(one, "sendString", None) or one.sendLine


def serve() -> None:
    for name, receiver in RECEIVERS.items():

        class Echo(receiver):
            def stringReceived(self, string: bytes) -> None:
                sender(self)(string)

            lineReceived = stringReceived

        port = reactor.listenTCP(0, protocol.Factory.forProtocol(Echo), interface="127.0.0.1")
        print(f"{name} at {port.getHost().port}.", flush=True)


def ask(name: str, port: int, count: int) -> None:
    payloads = [b"%d " % number + b"x" * (number % 200) for number in range(count)]

    class Client(RECEIVERS[name]):
        def connectionMade(self) -> None:
            self.got: list[bytes] = []
            for payload in payloads:
                sender(self)(payload)

        def stringReceived(self, string: bytes) -> None:
            self.got.append(bytes(string))
            if len(self.got) == count:
                print(self.got == payloads)
                self.transport.loseConnection()

        lineReceived = stringReceived

        def connectionLost(self, reason: object) -> None:
            reactor.stop()

    reactor.connectTCP("127.0.0.1", port, protocol.ClientFactory.forProtocol(Client))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        ask(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    else:
        serve()
    reactor.run()
