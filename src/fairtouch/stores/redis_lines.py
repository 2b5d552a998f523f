"""One connection to one server, per thread: calls go out together, and the replies come back in their order.

Rule: scripts go by their digest, and whole where the server does not know it.
"""

import os
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

from redis.exceptions import NoScriptError, ResponseError

from fairtouch.clock import seconds_running
from fairtouch.errors import StoreError
from fairtouch.stores.redis_calls import Call
from fairtouch.stores.redis_durability import GRACE_SECONDS, Durability
from fairtouch.stores.redis_errors import CLOSED

PAUSE_SECONDS: Final = 0.01  # before a connection is opened anew
_AT_ONCE: Final = 50  # calls in one message
ASKING: Final = (b"ASKING",)  # lets one command in at a node that is just taking a slot over


class Line:
    """A driver's connection, with the time that a call has and what it must have reached."""

    def __init__(self, connection: Any, deadline_seconds: float, durability: Durability) -> None:
        self._connection: Final = connection
        self._deadline: Final = deadline_seconds
        self._durability: Final = durability

    def disconnect(self) -> None:
        """Lets go of the socket: a reply that nobody reads must not answer the next call."""
        self._connection.disconnect()

    def call(self, call: Call, ends: float) -> Any:
        """The reply to one call; it raises what the server answers instead. `ends` by the running clock."""
        connection = self._connection
        self._begin(ends)
        connection.send_packed_command((packed(by_digest(call)),))
        try:
            reply = connection.read_response()
        except NoScriptError:
            connection.send_packed_command((packed(whole(call)),))
            reply = connection.read_response()
        if call.lasts:
            self._make_durable()
        return reply

    def send(self, calls: Sequence[Call], ends: float, *, asking: bool = False) -> None:
        """Sends several calls; `asking` goes before each of them."""
        self._begin(ends)
        for first in range(0, len(calls), _AT_ONCE):  # the server works on these while the next ones are packed
            some = calls[first : first + _AT_ONCE]
            commands = [each for call in some for each in ((ASKING, whole(call)) if asking else (by_digest(call),))]
            self._connection.send_packed_command((b"".join(map(packed, commands)),))

    def receive(self, calls: Sequence[Call], *, asking: bool = False) -> list[Any]:
        """The replies to what was sent; an error stands in its place. What the server did not know goes once more."""
        replies = []
        for _ in calls:
            if asking:
                self._reply()
            replies.append(self._reply())
        for place, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                self._connection.send_packed_command((packed(whole(calls[place])),))
                replies[place] = self._reply()
        if any(call.lasts for call in calls):
            self._make_durable()
        return replies

    def _begin(self, ends: float) -> None:
        connection = self._connection
        connection.ending.at = ends
        if not connection.is_connected:
            connection.socket_connect_timeout = max(ends - seconds_running(), PAUSE_SECONDS)
            connection.connect()

    def _reply(self) -> Any:
        try:
            return self._connection.read_response()
        except ResponseError as error:
            return error

    def _make_durable(self) -> None:
        if self._durability.is_required:
            connection = self._connection
            connection.ending.at = seconds_running() + self._deadline + GRACE_SECONDS
            connection.send_packed_command((packed(self._durability.command(self._deadline)),))
            self._durability.check(connection.read_response())


class Lines:
    """The connections of a store: one per thread and server, for as long as the thread lives; a child of a fork opens
    its own.
    """

    def __init__(self, open_to: Callable[[Any], Line]) -> None:
        self._open_to: Final = open_to
        self._local: Final = threading.local()
        self._all: Final[weakref.WeakSet[Line]] = weakref.WeakSet()
        self._is_closed = False

    def get(self, server: Hashable) -> Line:
        """This thread's connection to a server. Raises StoreError when the store was closed."""
        if self._is_closed:
            raise StoreError(CLOSED)
        known: tuple[int, dict[Hashable, Line]] = getattr(self._local, "known", (0, {}))
        pid, lines = known
        if pid != os.getpid():
            lines = {}
            self._local.known = (os.getpid(), lines)
        line = lines.get(server)
        if line is None:
            line = lines[server] = self._open_to(server)
            self._all.add(line)
        return line

    def close(self) -> None:
        """Lets go of every connection of this process."""
        self._is_closed = True
        for line in list(self._all):
            line.disconnect()


def by_digest(call: Call) -> tuple[Any, ...]:
    """The command of a call; its script by its digest."""
    if call.script is None:
        return (call.args[0], *call.keys, *call.args[1:])
    return (b"EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)


def whole(call: Call) -> tuple[Any, ...]:
    """The command of a call with its script, which the server knows from then on."""
    if call.script is None:
        return by_digest(call)
    return (b"EVAL", call.script.source, len(call.keys), *call.keys, *call.args)


def packed(command: Sequence[bytes | int]) -> bytes:
    """A command as it goes over the wire (RESP2): the driver's own packing costs more than the rest of a call."""
    words = [word if isinstance(word, bytes) else b"%d" % word for word in command]
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])
