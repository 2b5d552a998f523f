"""Plays a timeline through a governor, and stops at the first message that the model decides otherwise.

`python -m tests.seeded_replay VERDICTS URL` does so with made-up traffic and whichever fairtouch this Python imports.
VERDICTS is the file that `write_verdicts` made. It prints the first difference and exits with 1, or exits with 0.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fairtouch import Decision, FairtouchError, Governor, Policy, Touch
from fairtouch.instants import from_ms, to_ms
from fairtouch.testing import FrozenClock
from tests.model.model import Model
from tests.model.scenario import POLICY, play
from tests.model.timeline import Event, Operation, OptIn, OptOut, Send, SetCustomer, operations, synthetic_lines

NEXT_EVERY = 5  # of the messages that are not allowed, one in so many is asked for its next instant

Answer = tuple[str, frozenset[tuple[str, str]]]


def replay(governor: Governor, clock: FrozenClock, operations: Iterable[Operation]) -> Iterator[tuple[Send, Decision]]:
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
                yield operation, send(governor, operation)


def send(governor: Governor, message: Send) -> Decision:
    """Take the slots of a message; one that fails gives them back, one that does not is confirmed."""
    decision = governor.reserve(Touch(**message.touch()))
    if decision.reservation is not None:
        settle = governor.release if message.fails else governor.confirm
        settle(decision.reservation)
    return decision


def answer(decision: Decision) -> Answer:
    """What the model has an opinion about."""
    return decision.outcome.value, frozenset((reason.code.value, reason.rule) for reason in decision.reasons)


def next_instant(decision: Decision) -> int | None:
    """As the model writes it."""
    return None if decision.next_allowed_at is None else to_ms(decision.next_allowed_at)


def write_verdicts(path: Path) -> None:
    """The model's verdicts on the made-up messages: outcome, reasons, and every few its next instant too."""
    model, verdicts, noes = Model(POLICY), [], 0
    for message, verdict in play(model, operations(synthetic_lines())):
        noes += verdict.outcome != "allowed"
        row: list[Any] = [verdict.outcome, sorted(verdict.reasons)]
        if verdict.outcome != "allowed" and noes % NEXT_EVERY == 0:
            row.append(model.next_allowed_at(message.touch(), message.at))
        verdicts.append(row)
    path.write_text(json.dumps(verdicts))


def first_difference(url: str, verdicts: list[Any]) -> str | None:
    """The first message that is decided otherwise than the model did, in words, or None."""
    clock = FrozenClock(from_ms(0))
    with Governor(Policy.model_validate(POLICY), url, clock=clock) as governor:
        played = replay(governor, clock, operations(synthetic_lines()))
        for row, (message, decision) in zip(verdicts, played, strict=True):
            outcome, reasons = answer(decision)
            decided = [outcome, sorted(map(list, reasons)), next_instant(decision)][: len(row)]
            if row != decided:
                return f"{message}: {row} expected, {decided} decided"
    return None


def main(path: str, url: str) -> int:
    """What the process exits with. A library that finds its own mistake has noticed the bug, too."""
    try:
        difference = first_difference(url, json.loads(Path(path).read_text()))
    except FairtouchError as error:
        difference = repr(error)
    if difference is None:
        return 0
    print(difference)  # noqa: T201 - this is a program
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
