"""Where and with what the figures were measured: without it they mean nothing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sysconfig
import time
from importlib import metadata
from pathlib import Path

from benchmarks.builds import builds
from benchmarks.native import floor_kind

__all__ = ["environment", "load"]

PACKAGES = (
    "msgspec",
    "construct",
    "Twisted",
    "easynetwork",
    "anyio",
    "tornado",
    "websockets",
    "msgpack",
    "uvloop",
    "protobuf",
    "delimited-protobuf",
    "leb128",
    "pynetstring",
    "cobs",
    "sliplib",
    "pyspinel",
    "python4yahdlc",
)


def load() -> str:
    """How busy the machine is: the load averages of the last 1, 5 and 15 minutes."""
    return " ".join(f"{average:.2f}" for average in os.getloadavg())


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _system() -> str:
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {platform.system()} {platform.release()}"
    except OSError:
        return f"{platform.system()} {platform.release()}"


def _python() -> str:
    optimized = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    kind = "" if optimized else ", built without profile-guided optimisation"
    return f"{platform.python_implementation()} {platform.python_version()}{kind}"


def _version(command: list[str]) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def environment() -> dict[str, str]:
    """Name to value, in the order in which they are shown."""
    framing = builds()[0].framing
    kernels = "compiled kernels, and plain Python" if framing.compiled else "plain Python: no compiled kernels here"
    erlang = _version(["erl", "-noshell", "-eval", "io:put_chars(erlang:system_info(otp_release)), halt()."])
    packages = [f"{package} {_installed(package)}" for package in PACKAGES]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": _system(),
        "python": _python(),
        "framing": f"{framing.__version__}, {kernels}",
        "floor": floor_kind(),
        "peers": ", ".join(packages),
        "rust": _version(["rustc", "--version"]) or "not installed",
        "erlang": f"OTP {erlang}" if erlang else "not installed",
        "load at the start": load(),
    }
