"""What tests of several rooms share: Redis servers, the network before them, and a disk that can be made to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.faulty_disk import out_of_reach
from tests.redis_clusters import Cluster
from tests.redis_servers import Network, Server, valkey_server
from tests.redis_servers import redis_server as redis_server_program
from tests.workers import Crew

_prefixes = count()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Redis that runs as long as the tests do."""
    server = Server(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three Redis servers that share the slots, as long as the tests run."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Valkey that runs as long as the tests do."""
    server = Server(tmp_path_factory.mktemp("valkey"), program=valkey_server)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    """Eight processes, started once for all tests of a file."""
    crew = Crew()
    yield crew
    crew.close()


@pytest.fixture(scope="session")
def disk_within_reach() -> None:
    """Fails, with the reason, where no faulty disk can be laid under SQLite: a proof that did not run is none."""
    reason = out_of_reach()
    assert not reason, reason


@pytest.fixture
def redis_url(redis_server: Server) -> str:
    """The URL of an empty store on it."""
    return f"{redis_server.url}?prefix=test-{next(_prefixes)}&deadline_seconds=5"


@pytest.fixture
def cluster_url(redis_cluster: Cluster) -> str:
    """The URL of an empty store on the cluster."""
    return f"{redis_cluster.url}?prefix=test-{next(_prefixes)}&deadline_seconds=5"


@pytest.fixture
def prefix(redis_url: str) -> str:
    """The prefix of `redis_url`."""
    return redis_url.partition("prefix=")[2].partition("&")[0]


@pytest.fixture
def network(redis_server: Server) -> Iterator[Network]:
    """A network before the server of all tests."""
    network = Network(redis_server.port)
    yield network
    network.close()


@pytest.fixture
def valkey_url(valkey: Server) -> str:
    """The URL of an empty store on Valkey."""
    return f"{valkey.url}?prefix=test-{next(_prefixes)}&deadline_seconds=5"


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that these tests may hang and starve."""
    server = Server(tmp_path_factory.mktemp("rough"))
    yield server
    server.stop()


Own = Callable[..., Server]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Own]:
    """Starts servers that a test may end."""
    started: list[Server] = []

    def start(*options: str, program: Callable[[Path], str] = redis_server_program) -> Server:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Server(folder, *options, program=program))
        return started[-1]

    yield start
    for server in started:
        server.stop()
