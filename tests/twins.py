"""Governors of one policy, each on a store of its own, that must answer every call alike."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from fairtouch import Decision, Governor, IdConflict, PolicyError, Reservation, TouchError
from fairtouch.facts import LedgerEntry

MISTAKES = (IdConflict, PolicyError, TouchError)
"""What a caller did wrong; then nothing was recorded. Anything else that is raised ends the test."""


@dataclass(frozen=True)
class Each:
    """One thing for each of the twins, in their order."""

    things: Sequence[Any]

    @property
    def one(self) -> Any:
        """The first; where they are answers, they all look like this."""
        return self.things[0]

    @property
    def is_mistake(self) -> bool:
        """Whether the call was one."""
        return isinstance(self.one, MISTAKES)


class Twins:
    """Calls every governor and insists on the same answer."""

    def __init__(self, governors: Sequence[Governor]) -> None:
        self.governors = governors

    def __call__(self, verb: str, *arguments: Any, **fields: Any) -> Each:
        """`twins("consent.opt_in", "ada")`; an argument that is `Each` holds one for each governor."""
        answers = []
        for index, governor in enumerate(self.governors):
            own = [argument.things[index] if isinstance(argument, Each) else argument for argument in arguments]
            answers.append(attempt(governor, verb, own, fields))
        faces = [face(answer) for answer in answers]
        for other in faces[1:]:
            assert faces[0] == other, f"{verb}: {faces[0]} by one store, {other} by another"
        return Each(answers)

    def close(self) -> None:
        """Close the stores that they opened themselves."""
        for governor in self.governors:
            governor.close()


def attempt(governor: Governor, verb: str, arguments: Sequence[Any], fields: dict[str, Any]) -> Any:
    """What the call returns, or the mistake."""
    try:
        answer = attrgetter(verb)(governor)(*arguments, **fields)
        return list(answer) if isinstance(answer, Iterator) else answer
    except MISTAKES as mistake:
        return mistake


def face(answer: Any) -> Any:
    """All of an answer that must be the same. Tokens are random, and what happened at one instant has no order."""
    match answer:
        case Exception():
            return type(answer).__name__, str(answer)
        case Decision():
            said = (answer.outcome, answer.at, answer.next_allowed_at, bag(answer.reasons), face(answer.reservation))
            return *said, bag((replace(check, touches=()), bag(check.touches)) for check in answer.checks)
        case Reservation():
            return replace(answer, token="")
        case [LedgerEntry(), *_]:
            return bag(answer)
        case list():
            return [face(one) for one in answer]
    return answer


def bag(things: Iterable[Any]) -> frozenset[Any]:
    """How often each of them is there, in whatever order."""
    return frozenset(Counter(things).items())
