"""What tests of several rooms share: a Redis server for the whole run, and a disk that can be made to fail."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from tests.faulty_disk import out_of_reach
from tests.redis_clusters import Cluster
from tests.redis_servers import Server

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
