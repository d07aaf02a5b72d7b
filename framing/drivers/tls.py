"""TLS: which context an address and the options give, and the socket made from it, for every driver of streams.

The options are judged before anything is opened. The sockets made here have not shaken hands, so that no handshake is
waited for without a deadline; and they tell a stream that TLS has ended from one that was merely cut off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    import ssl

    from framing.drivers.address import Address

__all__ = ["client_tls", "server_tls", "wrap_client", "wrap_server"]


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
    # An interface behind an IPv6 address is this machine's business, and in nobody's certificate.
    return ssl_context, name if server_hostname or name is None else name.partition("%")[0]


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


def wrap_client(sock: socket.socket, context: ssl.SSLContext, server_hostname: str | None) -> ssl.SSLSocket:
    """``sock`` as a client's TLS socket, the handshake still to be done; ``sock`` itself is empty from now on."""
    return context.wrap_socket(
        sock, server_hostname=server_hostname, do_handshake_on_connect=False, suppress_ragged_eofs=False
    )


def wrap_server(sock: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """``sock`` as a server's TLS socket, the handshake still to be done; ``sock`` itself is empty from now on."""
    return context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False)
