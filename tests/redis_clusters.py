"""A cluster of real Redis servers on loopback, which can lose one and move slots."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import redis

from tests.redis_servers import PATIENCE_SECONDS, Server, free_port

SLOTS = 16_384
OPTIONS = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-config-file", "nodes.conf")


class Cluster:
    """So many primaries with an equal share of the slots, each with so many replicas."""

    def __init__(self, folder: Path, primaries: int = 3, replicas: int = 0) -> None:
        self.servers: list[Server] = []
        for number in range(primaries * (1 + replicas)):
            (folder / str(number)).mkdir()
            self.servers.append(Server(folder / str(number), *OPTIONS, port=low_port()))
        self.primaries = self.servers[:primaries]
        first = self.servers[0]
        for other in self.servers[1:]:
            self.tell(first, "CLUSTER", "MEET", "127.0.0.1", other.port)
        shares = [SLOTS * number // primaries for number in range(primaries + 1)]
        for server, start, end in zip(self.primaries, shares, shares[1:], strict=False):
            self.tell(server, "CLUSTER", "ADDSLOTS", *range(start, end))
        until(lambda: all(self.known(server) == len(self.servers) for server in self.servers))
        for number, replica in enumerate(self.servers[primaries:]):
            self.tell(replica, "CLUSTER", "REPLICATE", self.id_of(self.primaries[number % primaries]))
        until(lambda: all(b"cluster_state:ok" in self.tell(server, "CLUSTER", "INFO") for server in self.servers))
        until(lambda: all(self.is_in_sync(replica) for replica in self.servers[primaries:]))

    @property
    def url(self) -> str:
        """Any two of its servers."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers[-2:])

    def client(self) -> redis.RedisCluster:
        """A client of it."""
        return redis.RedisCluster(host="127.0.0.1", port=self.servers[0].port)

    def tell(self, server: Server, *command: object) -> bytes:
        """What a server answers to a command, as it is."""
        with redis.Redis(port=server.port, protocol=2) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def known(self, server: Server) -> int:
        """How many servers a server knows."""
        return len(self.tell(server, "CLUSTER", "NODES").splitlines())

    def id_of(self, server: Server) -> str:
        """What a server is called among the others."""
        return self.tell(server, "CLUSTER", "MYID").decode()

    def is_in_sync(self, replica: Server) -> bool:
        """Whether a replica has what its primary has."""
        return b"master_link_status:up" in self.tell(replica, "INFO", "replication")

    def move(self, slots: Sequence[int], source: Server, target: Server) -> None:
        """Moves slots with their keys, one by one, while others go on."""
        for slot in slots:
            self.tell(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
            self.tell(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))
            while keys := self.tell(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
                self.tell(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
            for server in (target, source, *self.primaries):
                self.tell(server, "CLUSTER", "SETSLOT", slot, "NODE", self.id_of(target))

    def stop(self) -> None:
        """Ends every server."""
        for server in self.servers:
            server.stop()


def low_port() -> int:
    """A free port that leaves room for the one, 10,000 above it, by which servers of a cluster talk."""
    while (port := free_port()) > 55_535:
        pass
    return port


def until(holds: Callable[[], bool]) -> None:
    """Waits until something holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "the cluster did not come about"
        time.sleep(0.05)
