"""TLS: which context an address and the options give, and the socket made from it, for every driver of streams.

The options are judged before anything is opened. The sockets made here have not shaken hands, so that no handshake is
waited for without a deadline; and they tell a stream that TLS has ended from one that was merely cut off.

What an upgrade in mid-stream (``start_tls``) refuses, it refuses here, for every driver alike.
"""

from __future__ import annotations

import socket
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from framing.errors import HEAD_BYTES, ConnectionClosed, CorruptFrame, FramingError, Timeout

if TYPE_CHECKING:
    import ssl

    from framing.channel import Channel
    from framing.drivers.address import Address

__all__ = [
    "client_tls",
    "judge_upgrade",
    "server_tls",
    "shaken_late",
    "upgrade_tls",
    "wrap_client",
    "wrap_server",
]


def client_tls(
    address: Address | None, ssl_context: ssl.SSLContext | None, server_hostname: str | None
) -> tuple[ssl.SSLContext | None, str | None]:
    """The context and the name to hold the server's certificate against; ``(None, None)`` for plain text.

    ``tls://`` without a context takes ``ssl.create_default_context()``, which trusts the authorities that the system
    trusts. Raises ValueError for options that do not fit together.
    """
    if ssl_context is None and (address is None or address.scheme != "tls"):
        if server_hostname is not None:
            raise ValueError("server_hostname is for TLS; write tls://host:port, or give an ssl_context too")
        return None, None
    # Imported where it is used: it costs what most programs do not need.
    import ssl  # noqa: PLC0415 # as said above

    if ssl_context is None:
        ssl_context = ssl.create_default_context()
    elif ssl_context.protocol == ssl.PROTOCOL_TLS_SERVER:
        raise ValueError("this ssl_context is a server's; a client's is made by ssl.create_default_context()")
    name = server_hostname or (address.host if address is not None else "") or None
    if name is None and ssl_context.check_hostname:
        raise ValueError(
            f"the certificate is to be held against a host name, and {address or 'this connection'} has none; "
            "give server_hostname"
        )
    if name is not None and not server_hostname:
        # An interface behind an IPv6 address is this machine's business, and in nobody's certificate.
        name = name.partition("%")[0]
    try:
        # Tried here, for the ssl module has its own opinion of what is a name, and else tells it when a connection is there.
        ssl_context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name)
    except (TypeError, ValueError) as error:
        raise ValueError(f"server_hostname {name!r} is no name for a certificate: {error}") from error
    return ssl_context, name


def server_tls(address: Address | None, ssl_context: ssl.SSLContext | None) -> ssl.SSLContext | None:
    """The context of a server, None for plain text. Raises ValueError for one that cannot be a server's."""
    if ssl_context is None:
        if address is not None and address.scheme == "tls":
            raise ValueError(
                f"a server at {address} needs a certificate; give an ssl_context: "
                "ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), and its load_cert_chain()"
            )
        return None
    import ssl  # noqa: PLC0415 # as above

    if ssl_context.protocol == ssl.PROTOCOL_TLS_CLIENT:
        raise ValueError(
            "this ssl_context is a client's; a server's is made by ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) "
            "and load_cert_chain()"
        )
    return ssl_context


def upgrade_tls(
    address: Address | None, ssl_context: ssl.SSLContext, server_hostname: str | None, *, server_side: bool
) -> tuple[ssl.SSLContext, str | None]:
    """The context of a ``start_tls``, and the name to hold the server's certificate against.

    Raises ValueError for options that do not fit together.
    """
    if server_side and server_hostname is not None:
        raise ValueError("server_hostname is the client's; a server_side shows its certificate")
    context, name = (
        (server_tls(None, ssl_context), None) if server_side else client_tls(address, ssl_context, server_hostname)
    )
    assert context is not None
    return context, name


def judge_upgrade(channel: Channel[Any], *, secure: bool, eof: bool, unhandled: int) -> None:
    """Raise where TLS cannot begin now; the channel has failed then where it is a `CorruptFrame`, and is as it was otherwise.

    ``unhandled`` messages were received and are not handled yet. They, and whatever else came before the handshake, came in
    plain text, perhaps from somebody in between; handled behind it, they would pass for the peer's own (PostgreSQL's
    CVE-2021-23214).
    """
    if secure:
        raise FramingError("the connection speaks TLS already")
    if eof or not (channel.may_send and channel.may_receive):
        raise channel.error or ConnectionClosed("start_tls(): the connection has ended")
    held = channel.unconsumed
    if not (unhandled or held or channel.pending or channel.inside):
        return
    found = f"{unhandled} messages and {len(held)} bytes" if unhandled else f"{len(held)} bytes"
    error = CorruptFrame(
        f"{found} came in plain text behind the agreement to start TLS, and before its handshake: the peer did not "
        "wait, or somebody in between put them there; they are not trusted, and the connection is over",
        got=len(held),
        head=held[:HEAD_BYTES],
    )
    channel.lost(error)
    raise error


def shaken_late(address: Address | None, seconds: float) -> Timeout:
    """What a handshake is that has no end."""
    return Timeout(
        f"shaking hands (TLS) with {address or 'the peer'}: not done in {seconds:g} s; does it speak TLS?",
        address=address,
        seconds=seconds,
    )


def _wrapped(sock: socket.socket, context: ssl.SSLContext, **how: Any) -> ssl.SSLSocket:
    """``sock`` as a TLS socket that has not shaken hands and tells an end of TLS from a cut; OSError: the peer is gone.

    A peer that resets in the midst of it leaves ssl's half-made socket behind, open until it is collected, and ``sock`` empty:
    the half-made one is found where it was left, and closed.
    """
    try:
        return context.wrap_socket(sock, do_handshake_on_connect=False, suppress_ragged_eofs=False, **how)
    except BaseException as error:
        for frame, _ in walk_tb(error.__traceback__):
            left = frame.f_locals.get("self")
            if isinstance(left, socket.socket):
                left.close()
        raise


def wrap_client(sock: socket.socket, context: ssl.SSLContext, server_hostname: str | None) -> ssl.SSLSocket:
    """``sock`` as a client's TLS socket, the handshake still to be done; ``sock`` itself is empty from now on."""
    return _wrapped(sock, context, server_hostname=server_hostname)


def wrap_server(sock: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """``sock`` as a server's TLS socket, the handshake still to be done; ``sock`` itself is empty from now on."""
    return _wrapped(sock, context, server_side=True)
