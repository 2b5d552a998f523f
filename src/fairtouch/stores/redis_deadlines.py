"""Connections whose sockets keep to the end of a call, however slowly a server answers.

A driver's time-out holds for each read of a socket, so a server that sends a byte now and then holds its caller for as
long as it likes. Here each has the time that its call has left.
"""

import socket
from functools import cache
from typing import Any, Final

from fairtouch.clock import seconds_running

_LEAST_SECONDS: Final = 0.001


class Ending:
    """When the call that is under way on a connection must be over, by the running clock."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = 0.0


class BoundedSocket:
    """A socket that waits no longer than its call has time; in all else the socket itself."""

    def __init__(self, wrapped: socket.socket, ending: Ending) -> None:
        self._socket: Final = wrapped
        self._ending: Final = ending

    def recv(self, size: int) -> bytes:
        """Reads what there is."""
        self._limit()
        return self._socket.recv(size)

    def recv_into(self, buffer: Any) -> int:
        """Reads what there is into a buffer."""
        self._limit()
        return self._socket.recv_into(buffer)

    def sendall(self, data: bytes) -> None:
        """Sends all of it."""
        self._limit()
        self._socket.sendall(data)

    def settimeout(self, seconds: float | None) -> None:
        """What the driver allows; the end of the call counts instead."""

    def _limit(self) -> None:
        self._socket.settimeout(max(self._ending.at - seconds_running(), _LEAST_SECONDS))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


@cache
def bounded(kind: Any) -> Any:
    """A driver's class of connections, with sockets that keep to `ending`."""

    class Bounded(kind):  # type: ignore[misc]
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.ending: Final = Ending()

        def _connect(self) -> Any:
            return BoundedSocket(super()._connect(), self.ending)

    return Bounded
