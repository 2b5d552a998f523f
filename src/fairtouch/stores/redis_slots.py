"""Which server of a cluster holds what, learnt from the servers, and where calls go until each has its reply. No
connection and no waiting here.

Rule 1: primaries only; a replica may not know of the last opt-out. Rule 2: what a server says of a slot (`MOVED`) holds
until the whole map is learnt anew, which happens whenever a server is lost.
"""

from collections.abc import Sequence
from random import sample
from typing import Any, Final

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, ReadOnlyError, TryAgainError

from fairtouch.stores.redis_calls import Call, Node

LEARN: Final = Call(None, (), (b"CLUSTER", b"SLOTS"))
OTHERS_SHARE: Final = 0.6  # of the time that is left, for whoever is asked after a server that hangs


class Slots:
    """The primaries of a cluster and their slots, as a client of it names them: its servers to begin with, and its own
    addresses for what servers call each other.
    """

    def __init__(self, client: Any) -> None:
        self._seeds: Final = [Node(each.host, int(each.port)) for each in client.nodes_manager.startup_nodes.values()]
        self._remap: Final = client.nodes_manager.remap_host_port
        self._owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self.is_known = False

    def node(self, host: str, port: int) -> Node:
        """Where the server is that others know under this address."""
        return Node(*self._remap(host, port))

    def whom_to_ask(self) -> list[Node]:
        """Servers that may know the map: those of the last one and the seeds, in any order."""
        known = list(dict.fromkeys((*self.primaries(), *self._seeds)))
        return sample(known, len(known))

    def learn(self, told: Sequence[Any], teller: Node) -> None:
        """Takes what a server tells of all slots (`CLUSTER SLOTS`); where it names no host it means its own."""
        owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, primary, *_ in told:
            owner = self.node((primary[0] or b"").decode() or teller.host, int(primary[1]))
            owners[first : last + 1] = [owner] * (last + 1 - first)
        self._owners = owners
        self.is_known = True

    def forget(self) -> None:
        """The map may be wrong: it has to be learnt anew."""
        self.is_known = False

    def move(self, slot: int, owner: Node) -> None:
        """A server says that another one has a slot now."""
        self._owners[slot] = owner

    def owner(self, call: Call) -> Node | None:
        """The server for a call; None when nobody has its slot. What has no key goes to the owner of the first slot."""
        return call.server or self._owners[key_slot(call.keys[0]) if call.keys else 0]

    def primaries(self) -> list[Node]:
        """All servers that own slots, by their first one."""
        return list(dict.fromkeys(owner for owner in self._owners if owner is not None))


class Errand:
    """Calls on their way: whom to ask next, and which replies stand."""

    def __init__(self, calls: Sequence[Call], slots: Slots) -> None:
        self._calls: Final = calls
        self._slots: Final = slots
        self._open: dict[int, Node | None] = dict.fromkeys(range(len(calls)))  # places, and who is to be asked instead
        self.replies: Final[list[Any]] = [None] * len(calls)
        self.last_error: Exception = ClusterDownError("nobody has the slot")

    @property
    def is_over(self) -> bool:
        """Whether every call has its reply."""
        return not self._open

    def turns(self) -> dict[tuple[Node, bool], list[int]]:
        """What to send next, by server and whether it has to be let in by ASKING: the places of the calls."""
        found: dict[tuple[Node, bool], list[int]] = {}
        for place, asked in self._open.items():
            server = asked or self._slots.owner(self._calls[place])
            if server is None:
                self._slots.forget()
            else:
                found.setdefault((server, asked is not None), []).append(place)
        return found

    def calls(self, places: Sequence[int]) -> list[Call]:
        """The calls at these places."""
        return [self._calls[place] for place in places]

    def lost(self, error: Exception) -> None:
        """A server did not answer: its calls are sent again, to whoever has their slots then."""
        self.last_error = error
        self._slots.forget()
        self._open = dict.fromkeys(self._open)

    def hear(self, places: Sequence[int], replies: Sequence[Any]) -> None:
        """Takes replies, errors among them. What is to be asked elsewhere, or later, stays open."""
        for place, reply in zip(places, replies, strict=True):
            self._open[place] = None
            if isinstance(reply, MovedError):
                self._slots.move(reply.slot_id, self._slots.node(reply.host, reply.port))
            elif isinstance(reply, AskError):
                self._open[place] = self._slots.node(reply.host, reply.port)
            elif isinstance(reply, ClusterDownError | ReadOnlyError):
                self._slots.forget()
            elif not isinstance(reply, TryAgainError):
                self.replies[place] = reply
                del self._open[place]
                continue
            self.last_error = reply
