"""What every acceptance test needs: a store to run on, and a governor whose clock stands still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fairtouch import Governor, Policy
from fairtouch.testing import FrozenClock

MONDAY_NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)

Build = Callable[..., tuple[Governor, FrozenClock]]


def build(
    policy: dict[str, Any], *, store: str = "memory://", start: datetime = MONDAY_NOON, **options: Any
) -> tuple[Governor, FrozenClock]:
    """Return a governor for a policy given as a dict, and the clock that it believes."""
    clock = FrozenClock(start)
    complete = {"name": "acceptance", "customer": {"timezones": ["UTC"]}, **policy}
    return Governor(Policy.model_validate(complete), store=store, clock=clock, **options), clock


@pytest.fixture(params=["memory", "sqlite", "redis", "valkey", "cluster"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, of each kind in turn."""
    if request.param in {"redis", "valkey", "cluster"}:
        return str(request.getfixturevalue(f"{request.param}_url"))
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/touches.db"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The file behind `sqlite_url`."""
    return tmp_path / "touches.db"


@pytest.fixture
def sqlite_url(database: Path) -> str:
    """The URL of an empty SQLite store."""
    return f"sqlite:///{database}"


@pytest.fixture
def govern(store_url: str) -> Iterator[Build]:
    """Build governors, on each kind of store unless a store is named, and close them afterwards."""
    opened: list[Governor] = []

    def open_one(policy: dict[str, Any], **options: Any) -> tuple[Governor, FrozenClock]:
        governor, clock = build(policy, **{"store": store_url, **options})
        opened.append(governor)
        return governor, clock

    yield open_one
    for governor in opened:
        governor.close()


@pytest.fixture
def govern_file(sqlite_url: str) -> Iterator[Build]:
    """Build governors that share one SQLite file, and close them afterwards."""
    opened: list[Governor] = []

    def open_one(policy: dict[str, Any], **options: Any) -> tuple[Governor, FrozenClock]:
        governor, clock = build(policy, store=sqlite_url, **options)
        opened.append(governor)
        return governor, clock

    yield open_one
    for governor in opened:
        governor.close()


@pytest.fixture(scope="session")
def govern_memory() -> Build:
    """Build governors on a memory store of their own; for property tests, which need many."""
    return build
