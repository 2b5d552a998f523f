"""What nobody on Redis can do without: a script that does nothing, and one that reads a key and adds to it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Final

import redis

from benchmarks.contest import Contestant, Site
from benchmarks.servers import Server, timed_on_server
from benchmarks.timing import Call

NOTHING: Final = "return 1"
GET_APPEND: Final = "local had = redis.call('GET', KEYS[1]) redis.call('APPEND', KEYS[1], ARGV[1]) return #had"
HAD: Final = b"." * 300  # about what is kept of a customer with eight touches
ADDED: Final = b"." * 30


@contextmanager
def by_pool(server: Server, _: Site, __: int) -> Iterator[Call]:
    """`EVALSHA return 1` by redis-py's client, which takes a connection from its pool for every call."""
    with closing(server.client()) as client:
        sha = client.script_load(NOTHING)
        yield lambda _: client.evalsha(sha, 0)


@contextmanager
def connected(server: Server) -> Iterator[redis.Connection]:
    """A connection of redis-py, without client or pool."""
    connection = redis.Connection(port=server.port)
    connection.connect()
    try:
        yield connection
    finally:
        connection.disconnect()


@contextmanager
def by_connection(server: Server, _: Site, __: int) -> Iterator[Call]:
    """`EVALSHA return 1` by one connection."""
    with connected(server) as connection:
        connection.send_command("SCRIPT LOAD", NOTHING)
        sha = connection.read_response()

        def call(_: int) -> None:
            connection.send_command("EVALSHA", sha, 0)
            connection.read_response()

        yield call


@contextmanager
def getting_and_appending(server: Server, _: Site, customers: int) -> Iterator[Call]:
    """GET and APPEND in one script, on a key per customer, by redis-py's client."""
    with closing(server.client()) as client:
        sha = client.script_load(GET_APPEND)
        client.mset({f"bench:{{{customer}}}": HAD for customer in range(customers)})
        yield lambda customer: client.evalsha(sha, 1, f"bench:{{{customer}}}", ADDED)


def contestant(name: str, prepare: Callable[[Server, Site, int], AbstractContextManager[Call]]) -> Contestant:
    """Somebody who needs no customers."""
    return Contestant(name=name, run=timed_on_server(prepare))


BARE: Final = "bare EVALSHA, pool client"
THIN: Final = "bare EVALSHA, one connection"
APPENDING: Final = "GET + APPEND, pool client"

CONTESTANTS: Final = (
    contestant(BARE, by_pool),
    contestant(THIN, by_connection),
    contestant(APPENDING, getting_and_appending),
)
