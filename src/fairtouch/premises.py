"""What a governor stands on: its store, the digests under which it keeps people, and its clock. For rooms that are
built on a governor and keep something of their own in its store.
"""

from typing import Generic, NamedTuple, TypeVar

from fairtouch.clock import Clock
from fairtouch.digests import Digests

S = TypeVar("S")


class Premises(NamedTuple, Generic[S]):
    """`store`: the store of a `Governor`; of an `AsyncGovernor`, how to come by it once it is bound."""

    store: S
    digests: Digests
    clock: Clock | None
