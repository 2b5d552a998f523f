"""The table of names on Redis was lost: an error to whoever meets the old numbers, and never a new meaning."""

from __future__ import annotations

import pytest

from fairtouch import StoreError
from tests.every_verb import WEEKLY, YESTERDAY
from tests.workers import govern


def test_names_that_are_lost(redis_server, redis_url, prefix):
    """When the table of names is gone, every document is a StoreError to a new worker, whatever it says first."""
    with govern(redis_url, WEEKLY) as governor:
        for index in range(4):
            governor.reserve(f"customer-{index}", channel="email", id="news", campaign=f"campaign-{index}")
            governor.consent.opt_out(f"customer-{index}", topic=f"topic-{index}")
    with redis_server.client() as client:
        assert client.delete(f"{prefix}:names") == 1
    with govern(redis_url, WEEKLY) as governor:
        governor.reserve("new", channel="sms", campaign="another", id="news")  # gives the old numbers to others
        governor.consent.opt_in("new", topic="another")
        for index in range(4):
            for verb in (
                lambda name: governor.check(name, channel="email"),
                lambda name: governor.reserve(name, channel="push"),
                lambda name: governor.consent.opt_in(name, topic="topic-1"),
                governor.consent.opt_out,
                governor.consent.status,
                governor.consent.history,
                governor.history,
                governor.customers.get,
                lambda name: governor.customers.set(name, country="FR"),
                lambda name: governor.record(name, YESTERDAY, channel="email", id="other"),
            ):
                with pytest.raises(StoreError):
                    verb(f"customer-{index}")


def test_names_that_are_lost_under_a_governor(redis_server, redis_url, prefix):
    """A governor that knew the names gives old ones no new meaning, and says so when it needs a new one."""
    with govern(redis_url, WEEKLY) as governor, govern(redis_url, WEEKLY) as other:
        governor.consent.opt_out("ada", topic="news")
        other.check("eve", channel="sms")
        with redis_server.client() as client:
            assert client.delete(f"{prefix}:names") == 1
        with pytest.raises(StoreError):
            other.consent.status("ada", topic="news")
        with pytest.raises(StoreError):
            governor.reserve("bob", channel="email", campaign="never heard of")
        with pytest.raises(StoreError):
            governor.consent.opt_in("bob", topic="never heard of")
        assert "opted_out" == governor.consent.status("ada", topic="news").state


def test_names_that_are_half_lost(redis_server, redis_url, prefix):
    """A table of names that lost single names is a StoreError to a worker who meets their numbers."""
    with govern(redis_url, WEEKLY) as governor:
        governor.reserve("ada", channel="email", campaign="spring", id="news")
        governor.consent.opt_out("ada", topic="news")
    with redis_server.client() as client:
        gone = [name for name in client.hkeys(f"{prefix}:names") if name.startswith(b"<")]
        client.hdel(f"{prefix}:names", *gone)
    with govern(redis_url, WEEKLY) as governor:
        for verb in (governor.history, governor.consent.history, governor.consent.status):
            with pytest.raises(StoreError):
                verb("ada")
