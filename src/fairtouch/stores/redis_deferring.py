"""Deferred touches on Redis: one sorted set and two hashes per queue, in one slot, and a list of the queues.

Rule: a call that is run again ends as if it had run once. What is kept is unlike every other; a claim is remembered for
a while, under its token; an item that was put back carries the token still.
"""

import os
import struct
from typing import Final

from fairtouch.stores.deferral_port import Claimed, Standing, Turns
from fairtouch.stores.redis_calls import CLAIM, DEFER, PUT_BACK, TAKE_OUT, Call, Keys, literally, pairs
from fairtouch.stores.redis_documents import NEVER_WRITTEN, damaged
from fairtouch.stores.redis_steps import Step

_REMEMBERED_SECONDS: Final = 60  # longer than any deadline
_TURNS: Final = struct.Struct(">II")
_NAME_LENGTH: Final = 32  # of an item
_PAGE: Final = 500  # items that one step looks at when a customer's are looked for


class Deferring:
    """The verbs of `deferral_port.DeferralStore`."""

    def __init__(self, keys: Keys) -> None:
        self._keys: Final = keys
        self._listed: Final[set[bytes]] = set()

    def keep(self, queue: bytes, item: bytes, due_at: int, content: bytes) -> Step[Standing]:
        """`DeferralStore.keep`."""
        if queue not in self._listed:  # first: what is in a queue that nobody finds could not be forgotten
            yield Call(None, (self._keys.queues,), (b"HSET", queue, 1), lasts=True)
            self._listed.add(queue)
        standing = yield Call(DEFER, self._keys.queue(queue), (item, due_at, content), lasts=True)
        return Standing(int(float(standing[0])), standing[1])

    def claim(
        self, queue: bytes, token: bytes, limit: int, lease: int, now: int | None
    ) -> Step[tuple[int, list[Claimed]]]:
        """`DeferralStore.claim`."""
        keys = self._keys.queue(queue)
        mine = keys[0] + b":" + token.hex().encode()
        clock = b"" if now is None else now
        clock, *found = yield Call(CLAIM, (*keys, mine), (clock, lease, limit, token, _REMEMBERED_SECONDS))
        try:
            parts = zip(found[::3], found[1::3], found[2::3], strict=True)
            return int(clock), [Claimed(item, content, _turns(packed)) for item, content, packed in parts]
        except NEVER_WRITTEN as error:
            raise damaged(error) from error

    def put_back(self, queue: bytes, token: bytes, item: bytes, due_at: int, turns: Turns) -> Step[None]:
        """`DeferralStore.put_back`."""
        due, _, claims = self._keys.queue(queue)
        yield Call(PUT_BACK, (due, claims), (item, token, due_at, _TURNS.pack(*turns)))

    def take_out(self, queue: bytes, token: bytes, item: bytes) -> Step[None]:
        """`DeferralStore.take_out`."""
        yield Call(TAKE_OUT, self._keys.queue(queue), (item, token, b""), lasts=True)

    def cancel(self, queue: bytes, prefix: bytes) -> Step[int]:
        """`DeferralStore.cancel`."""
        if len(prefix) == _NAME_LENGTH:
            return (yield from self._cancel(queue, prefix))
        claims = self._keys.queue(queue)[2]
        cursor, gone = None, 0
        while cursor != 0:
            asked = (b"HSCAN", cursor or 0, b"MATCH", literally(prefix) + b"*", b"COUNT", _PAGE)
            following, found = yield Call(None, (claims,), asked)
            for item in found[::2]:
                gone += yield from self._cancel(queue, item)
            cursor = int(following)
        return gone

    def queues(self) -> Step[list[bytes]]:
        """`DeferralStore.queues`."""
        return list(pairs((yield Call(None, (self._keys.queues,), (b"HGETALL",)))))

    def _cancel(self, queue: bytes, item: bytes) -> Step[int]:
        keys = self._keys.queue(queue)
        mine = keys[0] + b":" + os.urandom(8).hex().encode()
        return int((yield Call(TAKE_OUT, (*keys, mine), (item, b"", _REMEMBERED_SECONDS), lasts=True)))


def _turns(packed: bytes) -> Turns:
    return Turns(*_TURNS.unpack(packed)) if packed else Turns()
