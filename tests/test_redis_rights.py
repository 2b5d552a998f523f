"""A user of Redis who lacks a right: the documented ones are enough, and what one prevents is not there by half."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fairtouch import StoreError
from tests.every_verb import WEEKLY, run_and_prune, verbs, whole_state
from tests.redis_servers import Server
from tests.workers import govern

RIGHTS = [
    "evalsha",
    "eval",
    "time",
    "scan",
    "get",
    "set",
    "setnx",
    "setrange",
    "del",
    "exists",
    "hget",
    "hset",
    "hsetnx",
    "hmget",
    "hgetall",
    "hexists",
    "hincrby",
    "hdel",
    "zadd",
    "zscore",
    "zrangebyscore",
    "zrem",
    "hscan",
    "info",
]
DENIED = "permission|can't run|can't access|not let this user"
User = Callable[..., str]


@pytest.fixture
def user(redis_server: Server, prefix: str) -> Iterator[User]:
    """Makes a user who has some rights on the keys of a store; the URL under which she comes."""
    name = f"user-{prefix}"

    def grant(*rights: str, keys: str = f"{prefix}:*") -> str:
        with redis_server.client() as client:
            client.acl_setuser(
                name,
                enabled=True,
                reset=True,
                passwords=["+secret"],
                keys=[keys],
                commands=[f"+{right}" for right in rights],
            )
        return f"redis://{name}:secret@127.0.0.1:{redis_server.port}/0?prefix={prefix}&deadline_seconds=5"

    yield grant
    with redis_server.client() as client:
        client.acl_deluser(name)


def test_least_privilege(user):
    """A user who has no more than the rights that the documentation names can do everything."""
    run_and_prune(user(*RIGHTS))


def test_the_rights_that_are_documented():
    """The documentation names these rights, the one that a required durability takes, and no others."""
    text = (Path(__file__).parent.parent / "docs/howto/several-hosts.md").read_text(encoding="utf-8")
    granted = text.partition("ACL SETUSER")[2].partition("```")[0]
    assert {*RIGHTS, "wait"} == set(re.findall(r"\+(\S+)", granted))


@pytest.mark.parametrize("missing", [right for right in RIGHTS if right != "info"])
def test_a_right_that_is_missing(missing, user, redis_server):
    """Without any one of these rights something is a StoreError that says so."""
    url = user(*(right for right in RIGHTS if right != missing))
    with redis_server.client() as client:
        client.script_flush()
    with pytest.raises(StoreError, match=DENIED):
        run_and_prune(url)


def test_settings_that_may_not_be_read(user, caplog):
    """Without the right to look at the server's settings everything works, after a warning; or nothing, if wanted."""
    url = user(*(right for right in RIGHTS if right != "info"))
    with caplog.at_level(logging.WARNING, "fairtouch"):
        run_and_prune(url)
    assert any("could not be found out" in record.message for record in caplog.records)
    with pytest.raises(StoreError, match=DENIED):
        govern(f"{url}&on_eviction=refuse", WEEKLY)


def test_keys_that_are_somebody_elses(user, redis_url):
    """A user who may not touch the keys of the store is told so, whatever she does."""
    with govern(redis_url, WEEKLY):
        url = user(*RIGHTS, keys="other:*")
    with pytest.raises(StoreError, match=DENIED):
        govern(url, WEEKLY)


def test_a_wrong_password(user):
    """A user with another password is told so at once."""
    url = user(*RIGHTS).replace(":secret@", ":wrong@")
    with pytest.raises(StoreError, match="let this user in"):
        govern(url, WEEKLY)


@pytest.mark.parametrize("missing", ["set", "setnx", "hsetnx", "hset", "hincrby"])
@pytest.mark.parametrize("verb", ["opt_out", "complaint", "reserve", "record", "set"])
def test_what_a_right_prevents_is_not_half_there(verb, missing, user, redis_url):
    """What a missing right prevents is not there by half, and can be repeated once the right was given."""
    url = user(*RIGHTS)
    with govern(url, WEEKLY) as governor, govern(redis_url, WEEKLY) as reader:
        verbs(governor, "bob", None)[verb]()
        expected, before = whole_state(reader, "bob"), whole_state(reader, "ada")
        user(*(right for right in RIGHTS if right != missing))
        try:
            verbs(governor, "ada", None)[verb]()
        except StoreError:
            assert before == whole_state(reader, "ada")
            user(*RIGHTS)
            verbs(governor, "ada", None)[verb]()
        assert expected == whole_state(reader, "ada")


@pytest.mark.parametrize("missing", ["hset", "setrange", "set"])
def test_a_right_that_a_full_document_needs(missing, user, redis_url):
    """A touch whose document is full is either reserved, or not there: no slot is taken by a call that failed."""
    url = user(*RIGHTS)
    with govern(url, {}) as governor, govern(redis_url, {}) as reader:
        for index in range(64):
            governor.reserve("ada", channel="email", id=str(index))
        for index in range(64, 70):
            user(*(right for right in RIGHTS if right != missing))
            try:
                is_reserved = governor.reserve("ada", channel="email", id=str(index)).allowed
            except StoreError:
                is_reserved = False
            user(*RIGHTS)
            assert is_reserved == (str(index) in {entry.id for entry in reader.history("ada")})
