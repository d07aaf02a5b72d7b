"""What all tests rely on: Ctrl-C is what it is in a terminal, also where the tests are run in the background."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    # A shell gives a job in the background a SIGINT that is ignored, and every process below it inherits that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
