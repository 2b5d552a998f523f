"""Writes down what a client says to a server, and says it again: what the server makes of it without the client."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Final

import redis

END: Final = b"the end"
PIECE: Final = 1 << 16
PATIENCE_SECONDS: Final = 20


class Relay:
    """Stands between one connection and a server; `said` is what went to the server so far."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE_SECONDS)  # where the client never comes, nobody waits for ever
        self.port: Final = int(self._listener.getsockname()[1])
        self.said = bytearray()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client, socket.create_connection(("127.0.0.1", self._server)) as server:
            back = threading.Thread(target=_pass_on, args=(server, client, lambda _: None), daemon=True)
            back.start()
            _pass_on(client, server, self.said.extend)
            back.join()

    def close(self) -> None:
        """Waits until the client has left."""
        self._thread.join()
        self._listener.close()


def _pass_on(source: socket.socket, target: socket.socket, keep: Callable[[bytes], None]) -> None:
    """Hands on what one side says until it has no more to say."""
    while piece := source.recv(PIECE):
        keep(piece)
        target.sendall(piece)
    target.shutdown(socket.SHUT_WR)


@contextmanager
def relaying(port: int) -> Iterator[Relay]:
    """A relay to the server of a port, for a client who leaves before it ends."""
    relay = Relay(port)
    try:
        yield relay
    finally:
        relay.close()


def say_again(connection: redis.Connection, said: bytes) -> float:
    """Sends the same once more, all at once, and reads every reply; the seconds that it took.

    What the server refused the first time it refuses again: a greeting that it is too old for, a digest of a script
    that comes whole with the next call.
    """
    ending = connection.pack_command("ECHO", END)
    start = perf_counter()
    connection.send_packed_command([said, *ending])
    while True:
        try:
            if connection.read_response() == END:
                return perf_counter() - start
        except redis.ResponseError:
            continue
