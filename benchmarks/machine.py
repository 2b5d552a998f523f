"""Where and with what something was measured."""

import importlib.metadata
import os
import platform
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

LIBRARIES: Final = ("fairtouch", "limits", "pyrate-limiter", "throttled-py", "pydantic")


def processor() -> str:
    """The processor's name, if the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def described() -> str:
    """One sentence: the date, the machine, the interpreter and the libraries."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} on {os.cpu_count()} cores of {processor()} "
        f"({platform.system()} {platform.release()}), {python}, SQLite {sqlite3.sqlite_version}; {versions}."
    )
