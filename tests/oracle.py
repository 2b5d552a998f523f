"""The reference model with what a store adds to it: slots, recorded facts, ids that are forgotten, wishes.

The model (tests/model) takes what it admits and keeps it for ever. Here the test says what was taken and given back,
because it also drives other policies, late confirmations and records, all of which fill this policy's caps too.
"""

from dataclasses import replace
from itertools import count
from typing import Any

from tests.model.hours import QuietHours
from tests.model.model import AFTER_EVERYTHING, Case, Model, Taken
from tests.model.policy import parse_policy
from tests.model.rules import Cap, selects


class Oracle(Model):
    """Judges as the model does, over whatever it is told was taken."""

    def __init__(self, policy: dict[str, Any]) -> None:
        super().__init__(policy)
        self.week_starts = policy.get("week_starts", "monday")
        self.wished: dict[str, tuple[list[Cap], list[QuietHours]]] = {}
        self._handles = count()

    # What happened

    def take(self, touch: dict[str, Any], at: int) -> int:
        """A touch is in the ledger from now on; the handle by which `release` takes it out again."""
        asked = self._asked(touch)
        handle = next(self._handles)
        self.owners[handle] = asked.customer
        self.taken[asked.customer].append(Taken(handle, at, asked, frozenset()))
        return handle

    def oldest(self) -> int:
        """The instant of the oldest touch or event that is not forgotten."""
        touches = [taken.at for ledger in self.taken.values() for taken in ledger if taken.touch.id is not None]
        return min([AFTER_EVERYTHING, *touches, *(event.at for happened in self.events.values() for event in happened)])

    def forget(self, before: int) -> None:
        """What lies before the horizon still fills a lifetime, and no longer holds its id."""
        for customer, ledger in self.taken.items():
            self.taken[customer] = [nameless(taken) if taken.at < before else taken for taken in ledger]
        for customer, happened in self.events.items():
            self.events[customer] = [event for event in happened if event.at >= before]

    def know(self, customer: str, **facts: str | None) -> None:
        """All that is stored of a customer's zone and place; None is unknown."""
        self.facts[customer] = {name: value for name, value in facts.items() if value is not None}

    def wish(self, customer: str, wishes: dict[str, str], hours: dict[str, Any] | None) -> None:
        """A customer's own caps by channel, and her own open hours."""
        caps = {f"wish:{name}": {"limit": limit, "select": {"channels": [name]}} for name, limit in wishes.items()}
        quiet = {} if hours is None else {"wish:quiet_hours": {"open": hours}}
        rules = parse_policy({"week_starts": self.week_starts, "caps": caps, "quiet_hours": quiet})
        self.wished[customer] = rules.caps, rules.quiet_hours

    # What is asked

    def _case(self, touch: dict[str, Any]) -> Case:
        """Wishes hold for every category but the essential ones. What fills a cap is looked up in the facts anew."""
        case = super()._case(touch)
        asked = case.touch
        if asked.category not in self.rules.essential:
            caps, hours = self.wished.get(asked.customer, ([], []))
            caps = [cap for cap in caps if selects(cap.select, asked)]
            case = replace(case, caps=[*case.caps, *caps], quiet_hours=[*case.quiet_hours, *hours])
        self.taken[asked.customer] = [filling(taken, case) for taken in self.taken[asked.customer]]
        return case


def nameless(taken: Taken) -> Taken:
    """The same touch without its id."""
    return replace(taken, touch=replace(taken.touch, id=None))


def filling(taken: Taken, case: Case) -> Taken:
    """The same touch with the caps that it fills; none if it stands under the id of the touch that asks."""
    if taken.touch.id is not None and taken.touch.id == case.touch.id:
        return replace(taken, fills=frozenset())
    return replace(taken, fills=frozenset(cap.name for cap in case.caps if selects(cap.counts, taken.touch)))
