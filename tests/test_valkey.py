"""On Valkey an acknowledged word is as durable as was required, and the documented rights are enough.

That it answers as the other stores do is said by `acceptance`, which runs on it as well.
"""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from fairtouch import Governor, StoreError, StoreUnavailable
from tests.every_verb import WEEKLY, run_and_prune
from tests.in_a_loop import in_a_loop
from tests.redis_servers import Server, valkey_server
from tests.workers import await_that, codes, govern, govern_async

ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")


def durable(server: Server, durability: str) -> str:
    """A store that requires so much of every word."""
    return f"{server.url}?durability={durability}&deadline_seconds=1"


# What an acknowledged word survives

LIVES = 5


def test_a_word_on_the_disk_survives_kill_nine(own):
    """Each of hundreds of words that `fsynced` acknowledged, by WAITAOF, is there after the kill -9 that came between
    them and a restart: opt-outs, suppressions and customers' facts.
    """
    server = own(*ALWAYS, program=valkey_server)
    chance, kept = random.Random(20261121), []
    for life in range(LIVES):
        with govern(durable(server, "fsynced"), WEEKLY) as governor:
            acknowledged = until_it_dies(governor, server, f"life-{life}", chance.uniform(0.1, 0.4))
        kept += acknowledged
        assert acknowledged
        server.restart()
    with govern(server.url, WEEKLY) as governor:
        assert [] == [name for name in kept if governor.consent.status(name).state != "opted_out"]
        assert [] == [name for name in kept if codes(governor.reserve(name, channel="email")) != ["opted_out"]]
        assert [] == [name for name in kept if not governor.suppressions.contains(f"{name}@example.com", "email")]
        assert {"FR"} == {governor.customers.get(name).country for name in kept}
    assert len(kept) > 100


def until_it_dies(governor: Governor, server: Server, life: str, seconds: float) -> list[str]:
    """The customers of whom everything was acknowledged before the server was killed."""
    acknowledged = []
    killer = threading.Timer(seconds, server.process.kill)
    killer.start()
    try:
        for number in range(1_000_000):
            name = f"{life}-{number}"
            governor.customers.set(name, country="FR")
            governor.suppressions.add(f"{name}@example.com", "email")
            governor.consent.opt_out(name)
            acknowledged.append(name)
    except StoreUnavailable:
        killer.join()
    return acknowledged


WAYS = {
    "opt_out": lambda governor: governor.consent.opt_out("ada"),
    "suppress": lambda governor: governor.suppressions.add("ada@example.com", "email"),
    "set": lambda governor: governor.customers.set("ada", timezone="Europe/Paris"),
}


@pytest.mark.parametrize("say", WAYS)
def test_a_word_that_no_disk_will_hold_is_no_acknowledgement(say, own):
    """A server that keeps no append-only file cannot confirm a word: that is a StoreError which says so."""
    server = own(program=valkey_server)
    with govern(durable(server, "fsynced"), WEEKLY) as governor:
        with pytest.raises(StoreError, match="appendonly is disabled"):
            WAYS[say](governor)
        assert governor.reserve("grace", channel="email")  # reservations require nothing


@pytest.mark.parametrize("say", WAYS)
def test_a_word_that_is_not_on_the_disk_in_time_is_no_acknowledgement(say, own):
    """A server that leaves it to the system when to write says no: the word is honoured, and not acknowledged."""
    server = own("--appendonly", "yes", "--appendfsync", "no", program=valkey_server)
    with govern(f"{server.url}?durability=fsynced", WEEKLY) as governor:
        with pytest.raises(StoreUnavailable, match="it is not on the disk"):
            WAYS[say](governor)
        assert say != "opt_out" or ["opted_out"] == codes(governor.check("ada", channel="email"))


@in_a_loop
async def test_an_awaited_word_is_on_the_disk_or_is_not_acknowledged(own):
    """The asynchronous store says the same of a server that keeps a file, of one that does not write it in time, and of
    one that keeps none.
    """
    server = own(*ALWAYS, program=valkey_server)
    async with govern_async(durable(server, "fsynced"), WEEKLY) as governor:
        await governor.consent.opt_out("ada")
    server.restart()
    async with govern_async(server.url, WEEKLY) as governor:
        assert ["opted_out"] == codes(await governor.check("ada", channel="email"))
    for error, options in (
        (StoreError, ()),
        (StoreUnavailable, ("--appendonly", "yes", "--appendfsync", "no")),
    ):
        server = own(*options, program=valkey_server)
        async with govern_async(f"{server.url}?durability=fsynced", WEEKLY) as governor:
            with pytest.raises(error):
                await governor.consent.opt_out("ada")


def test_a_word_that_a_replica_confirmed_is_there_when_the_primary_is_gone(own):
    """With `replicated(1)` every acknowledged word stands on the replica, which takes over; without it, none is
    acknowledged.
    """
    primary = own("--repl-diskless-sync-delay", "0", program=valkey_server)
    replica = own("--replicaof", "127.0.0.1", str(primary.port), program=valkey_server)
    names = [f"customer-{number}" for number in range(100)]
    with primary.client() as first, replica.client() as second:
        await_that(lambda: second.info("replication")["master_link_status"] == "up" and first.wait(1, 100))
        with govern(durable(primary, "replicated(1)"), WEEKLY) as governor:
            for name in names:
                governor.consent.opt_out(name)
                governor.suppressions.add(f"{name}@example.com", "email")
            primary.process.kill()
            with pytest.raises(StoreUnavailable):
                governor.consent.opt_out("ada")
        second.replicaof("no", "one")
    with govern(durable(replica, "replicated(1)"), WEEKLY) as governor:
        assert [["opted_out"]] * 100 == [codes(governor.check(name, channel="email")) for name in names]
        assert all(governor.suppressions.contains(f"{name}@example.com", "email") for name in names)
        with pytest.raises(StoreUnavailable, match="0 of 1 replicas have it"):
            governor.consent.opt_out("ada")


# Rights

HOW_TO = Path(__file__).parent.parent / "docs/howto/several-hosts.md"


def test_the_rights_that_are_documented_are_enough(own):
    """The user whom the documentation makes can do everything; with one right more, on the disk; without it, not."""
    server = own(*ALWAYS, program=valkey_server)
    said = HOW_TO.read_text(encoding="utf-8").partition("ACL SETUSER")[2].partition("```")[0].split()
    assert ["fairtouch", "on", ">secret", "~fairtouch:*", "resetchannels"] == said[:5]
    url = f"redis://fairtouch:secret@127.0.0.1:{server.port}/0?deadline_seconds=5"
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", *said)
        run_and_prune(url)
        with govern(f"{url}&durability=fsynced", {}) as governor:
            with pytest.raises(StoreError, match="rights"):
                governor.consent.opt_out("grace")
            client.execute_command("ACL", "SETUSER", "fairtouch", "+waitaof")
            governor.consent.opt_out("grace")
        assert {"fairtouch"} == {key.partition(b":")[0].decode() for key in client.scan_iter()}
