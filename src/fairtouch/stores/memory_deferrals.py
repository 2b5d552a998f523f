"""Deferred touches in this process: the shortest store of them that keeps the whole contract."""

import threading
from bisect import bisect_left, insort
from collections import defaultdict
from dataclasses import dataclass, field

from fairtouch.clock import system_now
from fairtouch.stores.deferral_port import Claimed, Standing, Turns


@dataclass(slots=True)
class _Item:
    due_at: int
    content: bytes
    token: bytes = b""
    turns: Turns = field(default_factory=Turns)


@dataclass(slots=True)
class _Queue:
    """`order`: instant and name of every item, sorted."""

    items: dict[bytes, _Item] = field(default_factory=dict)
    order: list[tuple[int, bytes]] = field(default_factory=list)

    def put(self, name: bytes, item: _Item) -> None:
        self.items[name] = item
        insort(self.order, (item.due_at, name))

    def move(self, name: bytes, due_at: int) -> None:
        item = self.items[name]
        self._leave(name, item)
        item.due_at = due_at
        insort(self.order, (due_at, name))

    def remove(self, name: bytes) -> None:
        self._leave(name, self.items.pop(name))

    def _leave(self, name: bytes, item: _Item) -> None:
        del self.order[bisect_left(self.order, (item.due_at, name))]


class MemoryDeferrals:
    """`DeferralStore` in this process; nothing survives it. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[bytes, _Queue] = defaultdict(_Queue)

    def keep(self, queue: bytes, item: bytes, due_at: int, content: bytes) -> Standing:
        with self._lock:
            kept = self._queues[queue]
            if item not in kept.items:
                kept.put(item, _Item(due_at, content))
            return Standing(kept.items[item].due_at, kept.items[item].content)

    def claim(self, queue: bytes, token: bytes, limit: int, lease: int, now: int | None) -> tuple[int, list[Claimed]]:
        now = system_now() if now is None else now
        with self._lock:
            kept = self._queues[queue]
            claimed = []
            for due_at, name in kept.order[:limit]:
                if due_at > now:
                    break
                item = kept.items[name]
                item.token = token
                claimed.append(Claimed(name, item.content, item.turns))
            for each in claimed:
                kept.move(each.item, now + lease)
            return now, claimed

    def put_back(self, queue: bytes, token: bytes, item: bytes, due_at: int, turns: Turns) -> None:
        with self._lock:
            kept = self._queues[queue]
            found = kept.items.get(item)
            if found is not None and found.token == token:
                found.turns = turns
                kept.move(item, due_at)

    def take_out(self, queue: bytes, token: bytes, item: bytes) -> None:
        with self._lock:
            kept = self._queues[queue]
            found = kept.items.get(item)
            if found is not None and found.token == token:
                kept.remove(item)

    def cancel(self, queue: bytes, prefix: bytes) -> int:
        with self._lock:
            kept = self._queues[queue]
            meant = [name for name in kept.items if name.startswith(prefix)]
            for name in meant:
                kept.remove(name)
            return len(meant)

    def queues(self) -> list[bytes]:
        with self._lock:
            return list(self._queues)
