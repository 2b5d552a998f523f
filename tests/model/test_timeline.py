"""The traffic is the same on every machine, and has in it what an engine may trip over."""

from collections import Counter
from hashlib import blake2b
from itertools import pairwise

from .timeline import Event, OptIn, OptOut, Send, SetCustomer, operations, synthetic_lines

MADE_UP = operations(synthetic_lines())
SENDS = [operation for operation in MADE_UP if isinstance(operation, Send)]


def test_the_operations_are_the_same_on_every_machine() -> None:
    """They depend on the lines alone: not on the process, its hash seed or the order of a set."""
    fingerprint = blake2b("\n".join(map(repr, MADE_UP)).encode(), digest_size=8).hexdigest()
    assert fingerprint == "df3151919befd435"


def test_every_line_but_the_header_is_one_message_with_its_own_id() -> None:
    """The header is not a message."""
    lines = synthetic_lines(count=500)
    sends = [operation for operation in operations(lines) if isinstance(operation, Send)]
    assert len(sends) == len(lines) - 1 == 500
    assert len({send.id for send in SENDS}) == len(SENDS)
    assert [send.customer for send in sends] == [line.split()[1] for line in lines[1:]]


def test_time_never_goes_back() -> None:
    """Several things may happen in one millisecond, none before the one it follows."""
    assert all(earlier.at <= later.at for earlier, later in pairwise(MADE_UP))


def test_there_is_some_of_everything() -> None:
    """Every kind of operation, channel, category, topic, subject, campaign and priority, with and without."""
    assert {type(operation) for operation in MADE_UP} == {SetCustomer, OptIn, OptOut, Event, Send}
    assert {send.channel for send in SENDS} == {"email", "sms", "push"}
    assert {send.category for send in SENDS} == {"marketing", "service", "transactional", None}
    assert {send.topic for send in SENDS} == {"newsletter", "orders", None}
    assert {send.subject for send in SENDS} == {"order-1", "order-2", None}
    assert {send.campaign for send in SENDS} == {"spring", "summer", "back-to-school", None}
    assert {send.priority for send in SENDS} == set(range(10))
    assert {send.fails for send in SENDS} == {True, False}
    assert len({send.timezone for send in SENDS}) == 6


def test_some_customers_have_a_zone_and_some_have_none() -> None:
    """For the latter the policy's candidates apply."""
    known = {operation.customer for operation in MADE_UP if isinstance(operation, SetCustomer)}
    assert 0 < len({send.customer for send in SENDS} - known) < len(known)


def test_some_people_say_yes_and_no_in_the_same_millisecond() -> None:
    """An engine must know which of the two holds."""
    yes = {(said.customer, said.at) for said in MADE_UP if isinstance(said, OptIn)}
    no = {(said.customer, said.at) for said in MADE_UP if isinstance(said, OptOut)}
    assert yes & no


def test_a_few_customers_receive_much_of_all() -> None:
    """A tenth of them receive more than a quarter of the messages."""
    received = sorted(Counter(send.customer for send in SENDS).values(), reverse=True)
    assert sum(received[: len(received) // 10]) > len(SENDS) / 4
