"""Short words for hand-computed cases: instants as text, one customer, policies of one rule."""

from datetime import datetime
from typing import Any

from .local_time import millis
from .model import Model, Verdict

MS = 1
ADA = "ada"


def instant(text: str) -> int:
    """Milliseconds since the epoch of "2024-03-10T05:00Z" or "2024-03-10T05:00:00.001-05:00"."""
    return millis(datetime.fromisoformat(text))


def touch(**fields: Any) -> dict[str, Any]:
    """An e-mail to Ada, unless it is said otherwise."""
    return {"customer": ADA, "channel": "email", **fields}


def capped(limit: str, **table: Any) -> Model:
    """A model with one cap, "cap"."""
    return Model({"caps": {"cap": {"limit": limit, **table}}})


def open_at(hours: dict[str, Any], tz: str = "UTC", **table: Any) -> Model:
    """A model with one rule of quiet hours, "hours", and Ada in that zone."""
    model = Model({"quiet_hours": {"hours": {"open": hours, **table}}})
    model.customer(ADA, timezone=tz)
    return model


def passes(model: Model, text: str, **fields: Any) -> bool:
    """Whether the touch would be allowed at that instant."""
    return model.judge(touch(**fields), instant(text)).outcome == "allowed"


def take(model: Model, text: str, **fields: Any) -> Verdict:
    """Reserve the touch at that instant; it must be allowed."""
    verdict = model.reserve(touch(**fields), instant(text))
    assert verdict.outcome == "allowed", verdict
    return verdict


def verdict(outcome: str, *reasons: tuple[str, str]) -> Verdict:
    """The verdict with that outcome for just these reasons."""
    return Verdict(outcome, frozenset(reasons))


def codes(decided: Verdict) -> set[str]:
    """The reasons without the rules."""
    return {code for code, _ in decided.reasons}
