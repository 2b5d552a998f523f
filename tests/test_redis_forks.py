"""A program that used its governor on Redis, and forks: all decide at once, each on connections of its own."""

from __future__ import annotations

import re
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.redis_servers import Server
from tests.test_mixed_callers import CAP, OPERATIONS, SHARED, assert_apart
from tests.workers import in_new_process
from tests.workers.forks import among_threads, fork_among_threads, preloading

CHILDREN = 100


@pytest.mark.parametrize("program", [preloading, among_threads])
def test_the_workers_of_a_server_keep_apart(program, redis_server, redis_url):
    """A server that used its governors and then forks four workers, with and without threads that go on: of 10,000
    operations and more none is answered about somebody else's customers, every cap is exact, and no connection is used
    by two processes.
    """
    with overhearing(redis_server) as heard:
        left, shares = in_new_process(program, redis_url, CAP, SHARED, OPERATIONS)
    assert_apart(redis_url, left, shares)
    assert {1} == {len(processes) for processes in heard.values()}, heard
    assert {"parent", "early", "child 0", "child 1", "child 2"} <= set().union(*heard.values())


OWN_CUSTOMER = re.compile(rb"(before|parent|early|child \d)[ a-z0-9']*-\d+/")
"""A touch id that only one process makes, and reads: of a customer of its own. It names the process."""


@contextmanager
def overhearing(server: Server) -> Iterator[dict[bytes, set[str]]]:
    """Which processes speak on each connection while the block runs, as the server hears them."""
    heard: dict[bytes, set[str]] = defaultdict(set)

    def listen() -> None:
        with suppress(OSError), listener.makefile("rb") as lines:
            for line in lines:
                address = line.partition(b"[0 ")[2].partition(b"]")[0]
                for name in OWN_CUSTOMER.findall(line) if address != b"lua" else ():
                    heard[address].add("parent" if name == b"before" else name.decode())

    with socket.create_connection(("127.0.0.1", server.port)) as listener:
        listener.sendall(b"MONITOR\r\n")
        assert listener.recv(5) == b"+OK\r\n"
        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield heard
        finally:
            with server.client() as client:
                client.echo("the end")  # everything before it has been said
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_a_fork_while_threads_decide(redis_url):
    """A child that is forked in the middle of what threads of its parent do does not wait for them."""
    left = in_new_process(fork_among_threads, redis_url, CAP, CHILDREN)
    assert [0] * CHILDREN == left
