"""What a store promises that keeps deferred touches: a part of its own, beside `port.Store`.

A store that has it says so by an attribute, `deferrals`. It keeps *queues*, each under a digest; in each stand items,
under 32 bytes: the customer's digest, then one of the touch's id, so that hers can be found in every queue. What an
item holds is for others to read. It holds the customer, her address and the payload in clear, because they are needed
when the touch is sent.

Each method is one atomic step, whatever else happens at the same time, on every worker; errors and time are those of
`port`. An item is *claimed* by one worker at a time, under a random token, until the claim ends; what carries another
token than the item's last claim changes nothing, so a worker that comes back late undoes nobody's work.
"""

from typing import NamedTuple, Protocol, runtime_checkable


class Standing(NamedTuple):
    """What stands under an item: when it is due (or its claim ends), and what it holds."""

    due_at: int
    content: bytes


class Turns(NamedTuple):
    """How often an item was put back because it was not allowed yet, and how often because its send failed."""

    deferred: int = 0
    failed: int = 0


class Claimed(NamedTuple):
    """An item that is ours until the claim ends."""

    item: bytes
    content: bytes
    turns: Turns


@runtime_checkable
class DeferralStore(Protocol):
    """Deferred touches: kept, claimed when they are due, put back, taken out."""

    def keep(self, queue: bytes, item: bytes, due_at: int, content: bytes) -> Standing:
        """Keeps an item, unless one stands there; what stands there now. As durable as an opt-out before it returns."""
        ...

    def claim(self, queue: bytes, token: bytes, limit: int, lease: int, now: int | None) -> tuple[int, list[Claimed]]:
        """Now, and up to so many items that are due, the longest due first. They are due again at now + lease, for
        whoever comes then. Where a call may run twice, because its answer was lost, the same token is answered the
        same.
        """
        ...

    def put_back(self, queue: bytes, token: bytes, item: bytes, due_at: int, turns: Turns) -> None:
        """Makes an item due at another instant, if this token claimed it last."""
        ...

    def take_out(self, queue: bytes, token: bytes, item: bytes) -> None:
        """Takes an item out, if this token claimed it last. What it held is gone from the medium as far as a store can
        bring that about.
        """
        ...

    def cancel(self, queue: bytes, prefix: bytes) -> int:
        """Takes out whatever stands under items that begin so, claimed or not; how many there were."""
        ...

    def queues(self) -> list[bytes]:
        """Every queue in which something may stand, in any order."""
        ...
