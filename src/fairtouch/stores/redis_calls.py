"""What is asked of Redis, and how the answers read: scripts, keys, arguments and replies, without any connection.

Rule 1: a call that the driver runs twice, or whose reply is lost, ends as if it had run once. Rule 2: every value is an
argument; nothing is formatted into a script. Rule 3: the keys of a customer share a slot by their tag, and show nothing
but digests.
"""

import hashlib
import re
from binascii import b2a_base64
from collections.abc import Sequence
from importlib import resources
from typing import Any, Final, NamedTuple


class Script:
    """A script and the digest under which Redis keeps it."""

    def __init__(self, name: str) -> None:
        self.source: Final = resources.files("fairtouch.stores").joinpath("lua", f"{name}.lua").read_bytes()
        self.sha: Final = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()


DECIDE: Final = Script("decide")
CHANGE: Final = Script("change")
SETTLE: Final = Script("settle")
READ: Final = Script("read")
NAME: Final = Script("name")
SUPPRESS: Final = Script("suppress")
UNSUPPRESS: Final = Script("unsuppress")
PROBE: Final = Script("probe")
DEFER: Final = Script("defer")
CLAIM: Final = Script("claim")
PUT_BACK: Final = Script("put_back")
TAKE_OUT: Final = Script("take_out")


class Node(NamedTuple):
    """Where a server of a cluster is."""

    host: str
    port: int


class Call(NamedTuple):
    """One call of a script; or, when `script` is None, of the command that `args` begins with, on the keys. `lasts`: it
    writes what has to be as durable as the store requires. `server`: the one of a cluster that is asked, where keys do
    not say it.
    """

    script: Script | None
    keys: Sequence[bytes]
    args: Sequence[bytes | int]
    lasts: bool = False
    server: Node | None = None


PRIMARIES: Final = Call(None, (), ())
"""Asks nobody: the reply is the servers of a cluster that own slots, or None for one server."""


class Keys:
    """The keys of one store, which begin with its prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()
        self.names: Final = b"%b:names" % self._prefix
        self.namespaces: Final = b"%b:namespaces" % self._prefix
        self.queues: Final = b"%b:queues" % self._prefix
        self.complete_since: Final = b"%b:complete_since" % self._prefix
        self.probes: Final = (b"%b:probe:{text}" % self._prefix, b"%b:probe:{text}:hash" % self._prefix)
        self.documents: Final = b"%b:{%b}" % (literally(self._prefix), b"?" * 22)
        """A pattern of all documents."""

    def document(self, customer: bytes) -> bytes:
        """A customer's document."""
        return b"%b:{%b}" % (self._prefix, b2a_base64(customer, newline=False)[:22])

    def of_decision(self, customer: bytes, address: bytes | None, *, totals: bool) -> tuple[bytes, ...]:
        """What a decision looks at; the fewer keys, the cheaper the call."""
        four = beside(self.document(customer))[: 4 if totals else 3]
        return four if address is None else (*four, self.suppression(address))

    def suppression(self, address: bytes) -> bytes:
        """What stands against an address."""
        return b"%b:{%b}:s" % (self._prefix, b2a_base64(address, newline=False)[:22])

    def queue(self, queue: bytes) -> tuple[bytes, bytes, bytes]:
        """Deferred touches: by the instant at which they are due, what they hold, their claims and turns."""
        start = b"%b:{%b}:q" % (self._prefix, b2a_base64(queue, newline=False)[:22])
        return start, start + b":h", start + b":c"


def literally(prefix: bytes) -> bytes:
    """A text in a pattern of SCAN, where some characters mean more than themselves."""
    return re.sub(rb"([\\*?\[\]^-])", rb"\\\1", prefix)


def beside(document: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """A document's key, and those beside it: older columns, older details, totals, words."""
    return document, document + b":o", document + b":d", document + b":t", document + b":w"


def pairs(flat: Sequence[Any]) -> dict[bytes, bytes]:
    """A reply of names and values."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
