"""What a store's answer must not be: every breach of the contract that shows in it, looked for before it is believed.

Rule 1: what could end in a wrong yes is found here; what the store decided is judged by `decision`. Rule 2: a store
that leaves out what was said cannot be told from a customer who said nothing: for that there are tests of stores. Rule
3: every decision passes through `breach`, so it looks at nothing that the comparisons of a yes look at anyway.
"""

from typing import Final

from fairtouch.consent import Said, Scope
from fairtouch.facts import Ask, Facts, Holder

FORMLESS: Final = (AttributeError, LookupError, TypeError, ValueError)
"""What looking at an answer raises that has not the form of one."""

_IN_ORDER: Final = (list, tuple)


def breach(ask: Ask, facts: Facts) -> str | None:  # noqa: C901, PLR0911 - one list, in one call: see rule 3
    """What the store did that its contract rules out, to go on after "the store"; None when nothing shows.

    Raises one of FORMLESS for an answer that cannot be looked at.
    """
    plan, _, asked, take, given, seen = ask
    now, taken, counts, _, said, _, held, entry = facts
    if not plan.since <= now < plan.until or (given is not None and given != now):
        return "answered at another time than the plan is for"
    if len(counts) != len(plan.limits) or counts.__class__ not in _IN_ORDER or (counts and min(counts) < 0):
        return "did not count all that it was asked to count"
    for scope, words in said.items():
        if scope.__class__ is not Scope or words.__class__ is not Said:
            return "told of consents in a form that nobody agreed on"
    if taken:
        if entry is None or not take:
            return "took a slot that it was not asked to take, or did not say which"
        at, _, _, touch_id, token, _, lease_end, _ = entry
        _, _, _, asked_id, asked_token, _, lease, _ = asked
        if token != asked_token or touch_id != asked_id:
            return "took a slot for another touch than it was asked for"
        if held is Holder.OURS:  # taken when this call ran before: for how long, and on what, was judged then
            return None
        if at != now or lease_end > now + lease or (lease_end > plan.closes_at and plan.open):
            return "took a slot for another time than it was asked for"
        if seen is not None and seen != said:
            return "took a slot on other consents than those it was asked about"
    return None


def breach_of_no(ask: Ask, facts: Facts) -> str | None:
    """The same of what only an answer holds that is no plain yes."""
    plan, touches = ask.plan, facts.touches
    if facts.holder.__class__ is not Holder or (facts.suppressed is not None and not facts.suppressed):
        return "answered in words that nobody agreed on"
    if facts.taken:
        return None
    if facts.entry is None and facts.holder is not Holder.NONE:
        return "did not say what holds the touch id"
    for index in plan.full(facts.counts):
        _, since = plan.windows[index]
        if since >= 0 and len(touches.get(index, ())) < facts.counts[index]:  # a lifetime counts what was pruned too
            return "did not name the touches that fill a cap"
    return None
