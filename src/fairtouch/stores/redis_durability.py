"""How safe a word must be before it is acknowledged, and what a server's settings say about it.

Redis acknowledges what stands in the memory of one server. That survives neither a power cut nor a failover, so whoever
needs more says so, and a write that does not reach it is an error and not an acknowledgement. It holds for consents,
suppressions and customers' facts: what is lost of reservations costs a cap its exactness, what is lost of opt-outs
reaches somebody who said no.
"""

import logging
import re
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

from fairtouch.errors import FairtouchError, StoreError, StoreUnavailable

OnEviction = Literal["warn", "refuse"]
_REPLICATED: Final = re.compile(r"replicated\(([1-9][0-9]?)\)")
GRACE_SECONDS: Final = 0.5  # after which a server that was asked to wait has said so; it looks ten times a second
_log: Final = logging.getLogger("fairtouch")


class Durability(NamedTuple):
    """What an acknowledged word survives. `replicas` that confirmed it (`WAIT`); `fsynced`: on the disk of the server
    that was asked (`WAITAOF`, Redis 7.2).
    """

    replicas: int = 0
    fsynced: bool = False

    @property
    def is_required(self) -> bool:
        """Whether more than a server's memory is."""
        return self.fsynced or self.replicas > 0

    def command(self, seconds: float) -> tuple[bytes | int, ...]:
        """What to ask on the connection that wrote: whether it is as durable within so many seconds."""
        milliseconds = int(seconds * 1_000)
        if self.fsynced:
            return (b"WAITAOF", 1, self.replicas, milliseconds)
        return (b"WAIT", self.replicas, milliseconds)

    def check(self, reply: Any) -> None:
        """Raises StoreUnavailable when less was reached than required."""
        synced, replicas = reply if self.fsynced else (0, reply)
        if replicas < self.replicas or (self.fsynced and synced < 1):
            reached = f"{replicas} of {self.replicas} replicas have it" + (
                f", and {'it is' if synced else 'it is not'} on the disk" if self.fsynced else ""
            )
            raise StoreUnavailable(
                f"this was written, and is less durable than required: {reached}. A failing server may lose it; "
                "say it again"
            )


def durability_of(text: str) -> Durability:
    """From 'memory', 'replicated(2)' or 'fsynced'. Raises StoreError."""
    if text == "memory":
        return Durability()
    if text == "fsynced":
        return Durability(fsynced=True)
    found = _REPLICATED.fullmatch(text)
    if found is None:
        raise StoreError(
            f"durability={text[:40]!r}: write 'memory', 'replicated(1)' with the number of replicas, or 'fsynced' "
            "(nothing was opened)"
        )
    return Durability(int(found[1]))


def look_at(told: Sequence[bytes | FairtouchError], on_eviction: OnEviction) -> None:
    """Says what a server that tells of its memory and its persistence (`INFO`) may do to opt-outs. When opt-outs may be
    evicted, or that is not told, it raises StoreError if that is to be refused.
    """
    settings: dict[str, str] = {}
    for section in told:
        if isinstance(section, FairtouchError):
            _warn(f"whether this Redis may lose opt-outs could not be found out ({section})", on_eviction)
            return
        for line in section.decode().splitlines():
            name, _, value = line.partition(":")
            settings[name] = value
    policy = settings.get("maxmemory_policy", "")
    if policy.startswith("allkeys") and settings.get("maxmemory", "0") != "0":
        _warn(
            f"this Redis may evict opt-outs when its memory is full (maxmemory-policy {policy}); set it to noeviction, "
            "or keep fairtouch on a Redis of its own",
            on_eviction,
        )
    if settings.get("aof_enabled") == "0":
        _log.warning(
            "this Redis keeps no append-only file: a restart loses opt-outs that were said since its last snapshot; "
            "set appendonly yes"
        )


def _warn(message: str, on_eviction: OnEviction) -> None:
    if on_eviction == "refuse":
        raise StoreError(f"{message} (nothing was recorded)")
    _log.warning(message)
