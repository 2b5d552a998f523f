"""The engine gives the model's verdicts, message for message, on real traffic.

The model (tests/model) was written first, from the contract alone, and shares no line with the engine.
"""

from collections import Counter

import pytest

from fairtouch import Governor, Policy
from fairtouch.instants import from_ms
from fairtouch.testing import FrozenClock
from tests.model.model import Model
from tests.model.scenario import POLICY, play
from tests.model.timeline import operations, real_lines, synthetic_lines
from tests.seeded_replay import Answer, answer, next_instant, replay

TIMELINE = operations(real_lines() or synthetic_lines())
NEXT_EVERY = 100  # of the refusals, one in so many is asked for its next instant


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


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis", "cluster"])
def test_the_engine_agrees_with_the_model(expected, kind, tmp_path, request):
    """Every message gets the model's outcome and the model's reasons, all of them, and the same next instant."""
    verdicts, instants = expected
    clock = FrozenClock(from_ms(0))
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/touches.db"}
    url = urls.get(kind) or request.getfixturevalue(f"{kind}_url")
    with Governor(Policy.model_validate(POLICY), url, clock=clock) as governor:
        differences = []
        for index, (message, decision) in enumerate(replay(governor, clock, TIMELINE)):
            if verdicts[index] != answer(decision):
                differences.append((message, verdicts[index], answer(decision)))
            if index in instants and instants[index] != next_instant(decision):
                differences.append((message, instants[index], next_instant(decision)))
    assert (len(verdicts), []) == (index + 1, differences[:3])


def test_the_quick_verdict_agrees_with_the_checks():
    """A touch is allowed exactly when every enforced rule that the decision can show passes."""
    clock = FrozenClock(from_ms(0))
    with Governor(Policy.model_validate(POLICY), "memory://", clock=clock) as governor:
        for message, decision in replay(governor, clock, operations(synthetic_lines())):
            passed = all(check.passed or not check.enforced for check in decision.checks)
            assert passed == decision.allowed, message


def test_every_rule_refuses_something(expected):
    """No rule of the scenario is idle: each refuses at least one message in a hundred."""
    verdicts, _ = expected
    refusals = Counter(reason for _, reasons in verdicts for reason in reasons)
    assert [] == [(reason, count) for reason, count in refusals.items() if count * 100 < len(verdicts)]
