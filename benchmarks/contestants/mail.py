"""A message through the wrappers, next to the same message without them: a real aiosmtpd, in a process of its own.

Messages go in turns, one as the client sends it and one wrapped, over the same connection. What the wrapper adds is
what a call takes beyond the client's own send inside it. What the governor's verbs take of that is the price of
deciding, the rest is the wrapper alone.
"""

import asyncio
import multiprocessing
import smtplib
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from email.message import EmailMessage
from multiprocessing.connection import Connection
from statistics import median
from time import perf_counter
from typing import Any, Final

from benchmarks.contest import Contestant, Goal, Group, Line, Site
from benchmarks.servers import running, without_advice
from benchmarks.world import opt_in, policy
from fairtouch import AsyncGovernor, Decision, Governor, Reservation, Touch
from fairtouch.integrations.envelopes import email_touch

MESSAGES: Final = 300  # of each kind; the first sixth only warms up
Stores = tuple[Any, Any]
"""The same store for a governor and for an asynchronous one."""


# The mail server, and what it gets


def serve(port: Connection) -> None:
    """The mail server's process: it tells its port, and ends when it is told to."""
    from examples.mail_server import MailServer

    with MailServer() as server:
        port.send(server.port)
        port.recv()


@contextmanager
def mail_server() -> Iterator[int]:
    """The port of a mail server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()  # so that the end of a process that tells nothing is the end of its pipe
    with closing(ours):
        yield ours.recv()
        ours.send(None)
        process.join()


def letter(number: int, recipients: int) -> EmailMessage:
    """A short message to so many people, who get no other."""
    everybody = range(number * recipients, (number + 1) * recipients)
    message = EmailMessage()
    message["From"] = "Shop <shop@shop.example>"
    message["To"] = ", ".join(f"Reader {each} <reader-{each}@example.com>" for each in everybody)
    message["Subject"] = "The letter of this week"
    message["Message-ID"] = f"<{number}@shop.example>"
    message.set_content("Here is what is new.\n" * 20)
    return message


def letter_touch(message: Any, address: str) -> Touch:
    """The touch of a letter to one person, who opted in to its topic."""
    return email_touch(message, address, customer=f"customer-{address[7:-12]}", topic="newsletter")


# Where decisions are made


@contextmanager
def memory(_: Site) -> Iterator[Stores]:
    """A store that waits for nothing."""
    from fairtouch.stores.memory import MemoryStore
    from fairtouch.stores.memory_async import AsyncMemoryStore

    store = MemoryStore()
    yield store, AsyncMemoryStore(store)


@contextmanager
def sqlite(site: Site) -> Iterator[Stores]:
    """A file, on the disk before a call returns."""
    with tempfile.TemporaryDirectory(dir=site.folder) as folder:
        url = f"sqlite:///{folder}/touches.db"
        yield url, url


@contextmanager
def redis(_: Site) -> Iterator[Stores]:
    """A server on the loopback."""
    with running() as server, without_advice():
        url = f"{server.url}?prefix=bench&deadline_seconds=10"
        yield url, url


# Clients and governors that know how long they took


class Timed:
    """How long what is inside took since the last look, in microseconds."""

    def __init__(self, inside: Any) -> None:
        self.inside, self._us = inside, 0.0

    def add(self, start: float) -> None:
        """What began at `start` is over."""
        self._us += (perf_counter() - start) * 1e6

    def looked_at(self) -> float:
        """The time, which begins anew."""
        us, self._us = self._us, 0.0
        return us


class TimedClient(Timed):
    """A client."""

    def send_message(self, *args: Any) -> Any:
        """Sends."""
        start = perf_counter()
        answer = self.inside.send_message(*args)
        self.add(start)
        return answer


class TimedAsyncClient(Timed):
    """A client that is awaited."""

    async def send_message(self, *args: Any, **options: Any) -> Any:
        """Sends."""
        start = perf_counter()
        answer = await self.inside.send_message(*args, **options)
        self.add(start)
        return answer


class TimedGovernor(Timed):
    """The verbs that the wrapper uses."""

    def reserve_many(self, touches: Sequence[Touch]) -> list[Decision]:
        """Reserves."""
        start = perf_counter()
        decisions = list(self.inside.reserve_many(touches))
        self.add(start)
        return decisions

    def confirm(self, reservation: Reservation) -> None:
        """Confirms."""
        start = perf_counter()
        self.inside.confirm(reservation)
        self.add(start)


class TimedAsyncGovernor(Timed):
    """The verbs that the wrapper uses, awaited."""

    async def reserve_many(self, touches: Sequence[Touch]) -> AsyncIterator[Decision]:
        """Reserves."""
        start = perf_counter()
        decisions = [decision async for decision in self.inside.reserve_many(touches)]
        self.add(start)
        for decision in decisions:
            yield decision

    async def confirm(self, reservation: Reservation) -> None:
        """Confirms."""
        start = perf_counter()
        await self.inside.confirm(reservation)
        self.add(start)


class Account:
    """What messages took, in microseconds, and what the parts of it come to."""

    def __init__(self) -> None:
        self.plain: list[float] = []
        self.added: list[float] = []
        self.alone: list[float] = []

    def note(self, plain: float, wrapped: float, client: Timed, governor: Timed) -> None:
        """One message of each kind."""
        sending, deciding = client.looked_at(), governor.looked_at()
        self.plain.append(plain)
        self.added.append(wrapped - sending)
        self.alone.append(wrapped - sending - deciding)

    def numbers(self) -> dict[str, float]:
        """Medians, because a shared machine has its moments; the first sixth is left out."""
        plain, added, alone = (median(us[len(us) // 6 :]) for us in (self.plain, self.added, self.alone))
        return {"us": added, "plain_us": plain, "added": added / plain, "alone": alone / plain}


# One message plain, one wrapped, and again


def sending(
    where: Callable[[Site], AbstractContextManager[Stores]], recipients: int
) -> Callable[[Site], dict[str, float]]:
    """By smtplib."""

    def run(site: Site) -> dict[str, float]:
        from fairtouch.integrations.smtp import GovernedSMTP

        number, account = min(MESSAGES, site.sizes.customers_max), Account()
        with where(site) as (store, _), mail_server() as port, Governor(policy(), store) as inside:
            opt_in(inside, range(number * recipients))
            with smtplib.SMTP("127.0.0.1", port) as connection:
                client, governor = TimedClient(connection), TimedGovernor(inside)
                smtp = GovernedSMTP(client, governor, letter_touch)  # type: ignore[arg-type]
                for each in range(number):
                    message, same = letter(each, recipients), letter(each, recipients)
                    start = perf_counter()
                    connection.send_message(same)
                    between = perf_counter()
                    if smtp.send_message(message):
                        raise AssertionError("the benchmark measures the way of a yes")
                    end = perf_counter()
                    account.note((between - start) * 1e6, (end - between) * 1e6, client, governor)
        return account.numbers()

    return run


def awaiting(
    where: Callable[[Site], AbstractContextManager[Stores]], recipients: int
) -> Callable[[Site], dict[str, float]]:
    """By aiosmtplib."""

    async def run(site: Site) -> dict[str, float]:
        import aiosmtplib

        from fairtouch.integrations.smtp_async import AsyncGovernedSMTP

        number, account = min(MESSAGES, site.sizes.customers_max), Account()
        with where(site) as (store, store_async), mail_server() as port:
            with Governor(policy(), store) as filling:
                opt_in(filling, range(number * recipients))
            async with (
                AsyncGovernor(policy(), store_async) as inside,
                aiosmtplib.SMTP(hostname="127.0.0.1", port=port) as connection,
            ):
                client, governor = TimedAsyncClient(connection), TimedAsyncGovernor(inside)
                smtp = AsyncGovernedSMTP(client, governor, letter_touch)  # type: ignore[arg-type]
                for each in range(number):
                    message, same = letter(each, recipients), letter(each, recipients)
                    start = perf_counter()
                    await connection.send_message(same)
                    between = perf_counter()
                    refused, _ = await smtp.send_message(message)
                    end = perf_counter()
                    if refused:
                        raise AssertionError("the benchmark measures the way of a yes")
                    account.note((between - start) * 1e6, (end - between) * 1e6, client, governor)
        return account.numbers()

    return lambda site: asyncio.run(run(site))


HOSTS: Final[dict[str, Any]] = {"smtplib": sending, "aiosmtplib": awaiting}
PLACES: Final = {"memory": memory, "SQLite": sqlite, "Redis": redis}
RECIPIENTS: Final = {1: "1 recipient", 10: "10 recipients"}


def named(host: str, place: str, recipients: int) -> str:
    """A contestant's name."""
    return f"{host}, {RECIPIENTS[recipients]}, {place}"


def lines() -> Iterator[Line]:
    """What each wrapper adds to a plain send, alone and with its decisions."""
    for host in HOSTS:
        for recipients, text in RECIPIENTS.items():
            of = named(host, "memory", recipients)
            goal = Goal("at most", 0.10)
            yield Line(text=f"{host}, {text}: plain send", of=of, metric="plain_us", unit="µs")
            yield Line(text=f"{host}, {text}: the wrapper alone / plain send", of=of, metric="alone", goal=goal)
            for place in PLACES:
                of = named(host, place, recipients)
                yield Line(text=f"{host}, {text}: with decisions, {place} / plain send", of=of, metric="added")


MAIL: Final = Group(
    name="mail",
    title="Around a mail server",
    rounds=5,
    contestants=tuple(
        Contestant(name=named(host, place, recipients), run=run(where, recipients))
        for host, run in HOSTS.items()
        for recipients in RECIPIENTS
        for place, where in PLACES.items()
    ),
    lines=tuple(lines()),
)
