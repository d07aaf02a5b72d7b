"""What the system says, in this library's words: an OSError becomes the `FramingError` that is the same builtin too.

Every text names the address and says what to do next; every error keeps the system's number in ``errno`` and the system's
own error as its cause.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

from framing.errors import ConnectionClosed, ConnectionFailed, ConnectionRefused, ConnectionReset, FramingError, Timeout

if TYPE_CHECKING:
    from framing.drivers.address import Address

__all__ = ["OUT_OF_RESOURCES", "UNDER_WAY", "translate", "was_reset"]

OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""The system has no room for one more connection just now: a reason to wait, and none to give up."""

UNDER_WAY = frozenset({errno.EINPROGRESS, errno.EINTR, getattr(errno, "WSAEWOULDBLOCK", errno.EINPROGRESS)})
"""What ``connect_ex`` says of a connection that is being made."""

_ADVICE = {
    errno.EADDRINUSE: "something listens there already; stop it, or choose another address (port 0 takes any free port)",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose one of its own, 127.0.0.1 or ::1",
    errno.EACCES: "this user may not; ports below 1024 and other people's files need rights",
    errno.EPERM: "this user may not; ports below 1024 and other people's files need rights",
    errno.EMFILE: "this process has too many files open; close connections, or raise its limit (ulimit -n)",
    errno.ENFILE: "the system has too many files open",
    errno.ENOENT: "there is no such socket file; start the server first, or mend the path",
    errno.ENETUNREACH: "there is no route to that network; check the address and the network",
    errno.EHOSTUNREACH: "there is no route to that host; check the address and the network",
    errno.ENOTSOCK: "that is no socket",
    errno.ENOTCONN: "the socket is not connected; connect it before it is given to a connection",
    errno.EAGAIN: "the server's queue of connections is full; try again later",
    errno.EINVAL: (
        "the system takes no such argument; a link-local IPv6 address needs its interface, as in tcp://[fe80::1%eth0]:9000"
    ),
}

# OpenSSL's names of what went wrong, and what to do; the first whose beginning fits counts.
_TLS_ADVICE = (
    ("WRONG_VERSION_NUMBER", "the peer does not speak TLS at this port; mend the address, or talk to it in plain text"),
    ("RECORD_LAYER_FAILURE", "the peer does not speak TLS at this port; mend the address, or talk to it in plain text"),
    ("PACKET_LENGTH_TOO_LONG", "the peer does not speak TLS; it has to connect with TLS"),
    ("HTTP_REQUEST", "the peer speaks plain HTTP; it has to connect with TLS"),
    ("HTTPS_PROXY_REQUEST", "the peer speaks plain HTTP; it has to connect with TLS"),
    (
        "NO_SHARED_CIPHER",
        "both sides have no cipher in common; load a certificate, or allow the same ciphers on both sides",
    ),
    ("UNSUPPORTED_PROTOCOL", "both sides have no TLS version in common; allow the same minimum_version on both sides"),
    (
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "both sides have no TLS version in common; allow the same minimum_version on both",
    ),
    ("NO_PROTOCOLS_AVAILABLE", "the context allows no TLS version; mend its minimum_version and maximum_version"),
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "the client showed no certificate; it has to load one: load_cert_chain()"),
    ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "the server wants this side's certificate; load one: load_cert_chain()"),
    ("TLSV1_ALERT_UNKNOWN_CA", "the peer does not trust this side's certificate; it has to load the authority's"),
    ("SSLV3_ALERT_", "the peer refused this side's certificate or offer; look into the peer's log"),
    ("TLSV1_", "the peer refused the handshake; look into the peer's log"),
)


def translate(error: OSError, address: Address | None, doing: str) -> FramingError:
    """The error that stands for ``error``, which happened when this side was ``doing`` something with ``address``."""
    place = f" {address or 'the peer'}"
    if _is_tls(error):
        return _translate_tls(error, address, f"{doing}{place}")
    reason = error.strerror or str(error) or type(error).__name__
    numbers: dict[str, Any] = {"address": address, "errno": error.errno}
    made: FramingError
    if isinstance(error, ConnectionRefusedError):
        made = ConnectionRefused(
            f"{doing}{place}: nobody listens there; start the server, or mend the address ({reason})", **numbers
        )
    elif isinstance(error, (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)):
        made = ConnectionReset(
            f"{doing}{place}: the peer dropped the connection; connect again, and look into the peer's log ({reason})",
            **numbers,
        )
    elif isinstance(error, TimeoutError):
        # The system names its own timeouts alone; those of a socket's deadline are the same to the caller.
        numbers["errno"] = error.errno or errno.ETIMEDOUT
        made = Timeout(f"{doing}{place}: no answer came in time; try again, or give a longer timeout", **numbers)
    elif isinstance(error, socket.gaierror):
        made = ConnectionFailed(f"{doing}{place}: the host name cannot be resolved ({reason})", **numbers)
    elif error.errno == errno.EBADF:
        made = ConnectionClosed(f"{doing}{place}: the socket was closed on this side; connect again", **numbers)
    else:
        advice = _ADVICE.get(error.errno or 0)
        made = ConnectionFailed(f"{doing}{place}: {reason}{f'; {advice}' if advice else ''}", **numbers)
    made.__cause__ = error
    return made


def was_reset(error: FramingError | None) -> bool:
    """Whether the write that failed with ``error`` has met the reset itself: the end that a read then finds is none.

    The system tells a reset once, to whoever asks first. Only "broken pipe" comes behind an end of the peer's own.
    """
    return getattr(error, "errno", None) not in {None, errno.EPIPE}


def _is_tls(error: OSError) -> bool:
    # Told by its attributes, for to import ssl costs what most programs do not need. Its errno is OpenSSL's own.
    return hasattr(error, "library") and hasattr(error, "reason")


def _translate_tls(error: Any, address: Address | None, doing: str) -> FramingError:
    """What OpenSSL says; such an error has no number of the system's."""
    refused: str | None = getattr(error, "verify_message", None)
    made: FramingError
    if refused is not None:
        made = ConnectionFailed(
            f"{doing}: its certificate was refused: {refused.strip().rstrip('.')}; load the authority that signed it, "
            "ssl.create_default_context(cafile=…), or give the server_hostname that it was made for",
            address=address,
        )
    elif type(error).__name__ in {"SSLEOFError", "SSLZeroReturnError"}:
        made = ConnectionReset(
            f"{doing}: the connection ended without TLS's own end (close_notify): the peer broke off, or somebody between "
            "cut it short; what came is whole, but more may have been meant to come: connect again",
            address=address,
        )
    else:
        reason: str = error.reason or ""
        advice = next((advice for name, advice in _TLS_ADVICE if reason.startswith(name)), None)
        what = reason.replace("_", " ").lower() or error.strerror or str(error)
        made = ConnectionFailed(
            f"{doing}: TLS failed: {what}; {advice or 'compare the contexts of both sides'}", address=address
        )
    made.__cause__ = error
    return made
