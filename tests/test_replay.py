"""The engine gives the model's verdicts, message for message, on real traffic.

The model (tests/model) was written first, from the contract alone, and shares no line with the engine.
"""

from collections import Counter
from collections.abc import Iterator

import pytest

from fairtouch import Governor, Policy, Touch
from fairtouch.instants import from_ms, to_ms
from fairtouch.testing import FrozenClock
from tests.model.model import Model
from tests.model.scenario import POLICY, play
from tests.model.timeline import (
    Event,
    Operation,
    OptIn,
    OptOut,
    Send,
    SetCustomer,
    operations,
    real_lines,
    synthetic_lines,
)

TIMELINE = operations(real_lines() or synthetic_lines())
NEXT_EVERY = 100  # of the refusals, one in so many is asked for its next instant

Answer = tuple[str, frozenset[tuple[str, str]]]


def replay(
    governor: Governor, clock: FrozenClock, operations: list[Operation]
) -> Iterator[tuple[Send, Answer, int | None]]:
    """Carry the operations out one after the other, and yield what becomes of each message."""
    for operation in operations:
        clock.set(from_ms(operation.at))
        match operation:
            case SetCustomer(_, customer, timezone, country, region):
                governor.customers.set(customer, timezone=timezone, country=country, region=region)
            case OptIn(at, customer, category, channel, topic):
                governor.consent.opt_in(customer, at=from_ms(at), category=category, channel=channel, topic=topic)
            case OptOut(at, customer, category, channel, topic):
                governor.consent.opt_out(customer, at=from_ms(at), category=category, channel=channel, topic=topic)
            case Event(at, customer, name, channel, subject):
                governor.feedback(name, customer=customer, channel=channel, subject=subject, at=from_ms(at))
            case Send():
                yield send(governor, operation)


def send(governor: Governor, message: Send) -> tuple[Send, Answer, int | None]:
    """Take the slots of a message; one that fails gives them back, one that does not is confirmed."""
    decision = governor.reserve(Touch(**message.touch()))
    if decision.reservation is not None:
        settle = governor.release if message.fails else governor.confirm
        settle(decision.reservation)
    assert decision.allowed == all(check.passed or not check.enforced for check in decision.checks)
    reasons = frozenset((reason.code.value, reason.rule) for reason in decision.reasons)
    next_at = None if decision.next_allowed_at is None else to_ms(decision.next_allowed_at)
    return message, (decision.outcome.value, reasons), next_at


@pytest.fixture(scope="module")
def expected() -> tuple[list[Answer], dict[int, int | None]]:
    """The model's verdicts, and its next instants on every hundredth refusal."""
    model, verdicts, instants = Model(POLICY), [], {}
    refusals = 0
    for message, verdict in play(model, TIMELINE):
        if verdict.outcome != "allowed":
            refusals += 1
            if refusals % NEXT_EVERY == 0:
                instants[len(verdicts)] = model.next_allowed_at(message.touch(), message.at)
        verdicts.append((verdict.outcome, verdict.reasons))
    return verdicts, instants


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{folder}/touches.db"], ids=["memory", "sqlite"])
def test_the_engine_agrees_with_the_model(expected, url, tmp_path):
    """Every message gets the model's outcome and the model's reasons, all of them, and the same next instant."""
    verdicts, instants = expected
    clock = FrozenClock(from_ms(0))
    with Governor(Policy.model_validate(POLICY), url.format(folder=tmp_path), clock=clock) as governor:
        differences = []
        for index, (message, answer, next_at) in enumerate(replay(governor, clock, TIMELINE)):
            if verdicts[index] != answer:
                differences.append((message, verdicts[index], answer))
            if index in instants and instants[index] != next_at:
                differences.append((message, instants[index], next_at))
    assert (len(verdicts), []) == (index + 1, differences[:3])


def test_every_rule_refuses_something(expected):
    """No rule of the scenario is idle: each refuses at least one message in a hundred."""
    verdicts, _ = expected
    refusals = Counter(reason for _, reasons in verdicts for reason in reasons)
    assert [] == [(reason, count) for reason, count in refusals.items() if count * 100 < len(verdicts)]
