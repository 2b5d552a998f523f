"""Tests that await, what they need around them, and asynchronous governors that are called as the others are."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from functools import wraps
from inspect import isawaitable
from pathlib import Path
from typing import Any

from fairtouch import AsyncGovernor, Decision, Policy, Touch
from fairtouch.facts import Entry
from fairtouch.stores.memory_async import AsyncMemoryStore
from fairtouch.stores.port import Settlement


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test that is a coroutine function."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


# Governors, and what is around them

NEWS = Touch("ada", channel="email", id="news-1")
WEEKLY = {"caps": {"weekly": {"limit": "5 per 7 days"}}}


def govern(store: Any, sections: dict[str, Any] | None = None, **options: Any) -> AsyncGovernor:
    """A governor for a policy given as sections."""
    policy = {"name": "async", "customer": {"timezones": ["UTC"]}, **(WEEKLY if sections is None else sections)}
    return AsyncGovernor(Policy.model_validate(policy), store, **options)


def codes(decision: Decision) -> list[str]:
    """The codes of the reasons."""
    return [str(reason.code) for reason in decision.reasons]


async def states(governor: AsyncGovernor, customer: str = "ada") -> list[str | None]:
    """How the touches in a ledger stand."""
    return [entry.state for entry in await governor.history(customer)]


class Held:
    """Another connection that is writing to the file, until it lets go."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("BEGIN IMMEDIATE")

    def let_go(self) -> None:
        """Write nothing after all."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._connection.close()


@contextmanager
def held(path: Path) -> Iterator[Held]:
    """The file is held inside, unless it is let go earlier."""
    holder = Held(path)
    with closing(holder._connection):
        yield holder


async def turns(number: int) -> None:
    """Let the event loop take so many turns."""
    for _ in range(number):
        await asyncio.sleep(0)


class Distant(AsyncMemoryStore):
    """A store that takes some turns of the loop to reach, as over a network; it counts some of its calls."""

    bound = released = closed = 0

    async def _call(self, verb: Callable[[Any], Any]) -> Any:
        await turns(3)
        return await super()._call(verb)

    async def bind(self, namespace: bytes, fingerprint: bytes, keep: int) -> None:
        self.bound += 1
        await super().bind(namespace, fingerprint, keep)

    async def release(self, customer: bytes, entry: Entry, now: int | None) -> Settlement:
        self.released += 1
        return await super().release(customer, entry, now)

    async def aclose(self) -> None:
        self.closed += 1


# Calling what is awaited


class InALoop:
    """Calls what an asynchronous object can do, and waits until it is done."""

    def __init__(self, awaited: Any, runner: asyncio.Runner) -> None:
        self._awaited, self._runner = awaited, runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._awaited, name)
        if not callable(found):
            return InALoop(found, self._runner)

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = found(*args, **kwargs)
            if isinstance(answer, AsyncIterator):
                return self._each(answer)
            return self._runner.run(_awaited(answer)) if isawaitable(answer) else answer

        return call

    def _each(self, answers: AsyncIterator[Any]) -> Iterator[Any]:
        while answer := self._runner.run(_next(answers)):
            yield from answer


class GovernorInALoop(InALoop):
    """A governor whose loop ends when it is closed."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(AsyncGovernor(*args, **options), asyncio.Runner())

    def close(self) -> None:
        """Close the governor, and then the loop."""
        self._runner.run(self._awaited.close())
        self._runner.close()


async def _awaited(answer: Any) -> Any:
    return await answer


async def _next(answers: AsyncIterator[Any]) -> list[Any]:
    """The next one, if there is one."""
    async for answer in answers:
        return [answer]
    return []
