"""Redis forgets its scripts, kills its clients and is killed itself: what surfaces can be repeated, all counts once."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tests.every_verb import SLOTS, WEEKLY
from tests.redis_servers import Server
from tests.workers import PARTIES, govern
from tests.workers.redis_troubles import assert_all_heard, assert_all_once, reserve_in_trouble_in_process

CUSTOMERS = 3_000
TURNS, TRIES = 5, 1_250  # of each of eight processes
DECISIONS = TURNS * TRIES * PARTIES


def test_flushes_kills_and_restarts(own, crew):
    """Over 50,000 decisions of eight processes, during which Redis forgets its scripts, kills its clients and is killed
    itself, only StoreUnavailable surfaces, every id counts once, no cap is overshot and every acknowledged opt-out
    stands.
    """
    server = own("--appendonly", "yes", "--appendfsync", "no")  # what the system was given outlives a kill -9
    heard = []
    with in_trouble(server) as troubles:
        for turn in range(TURNS):
            heard += crew(reserve_in_trouble_in_process, server.url, WEEKLY, CUSTOMERS, TRIES, turn)
    with govern(server.url, WEEKLY) as governor:
        assert_all_once(governor, heard, SLOTS)
        assert_all_heard(governor, heard)
    assert 50_000 <= DECISIONS
    assert DECISIONS <= sum(sum(one.answers.values()) + len(one.suppressed) for one in heard)
    assert min(troubles[kind] for kind in ("flush", "kill", "restart")) >= 10, troubles


@contextmanager
def in_trouble(server: Server) -> Iterator[Counter[str]]:
    """A server that is in trouble several times a second while the block runs; how often, of each sort."""
    finished = threading.Event()
    troubles: Counter[str] = Counter()

    def trouble() -> None:
        chance = random.Random(20261121)
        while not finished.wait(chance.uniform(0, 0.3)):
            kind = chance.choice(["flush", "kill", "restart"])
            troubles[kind] += 1
            if kind == "restart":
                server.restart()
                continue
            with server.client() as client:
                if kind == "flush":
                    client.script_flush()
                else:
                    client.client_kill_filter(_type="normal", skipme=True)

    thread = threading.Thread(target=trouble)
    thread.start()
    try:
        yield troubles
    finally:
        finished.set()
        thread.join()
