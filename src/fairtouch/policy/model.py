"""The policy file as it is written: sections, keys, and what each may hold.

Rule 1: unknown keys are errors. Rule 2: nothing here decides anything; `rules` is what the sections become.
"""

from contextlib import suppress
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, StringConstraints

from fairtouch.bounds import NAME_LENGTH_MAX, SELECTION_MAX, TEXT_LENGTH_MAX, ZONES_MAX

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=NAME_LENGTH_MAX)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=TEXT_LENGTH_MAX)]
Values = Annotated[tuple[Text, ...], Field(min_length=1, max_length=SELECTION_MAX)]
Country = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2}$")]


def _listed(value: object) -> object:
    """One window may be written without the list around it."""
    return (value,) if isinstance(value, str) else value


Windows = Annotated[tuple[Text, ...], BeforeValidator(_listed)]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
EventName = Literal["conversation", "refusal", "reply", "complaint", "hard_bounce", "soft_bounce", "open", "click"]


class Section(BaseModel):
    """A table of the policy: unknown keys are errors, and what was read stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class SelectionSection(Section):
    """AND between keys, OR within one. An absent key is all; an empty list is an error. Countries are ISO 3166-1
    codes ("US"), regions ISO 3166-2 ("US-FL").
    """

    channels: Values | None = None
    categories: Values | None = None
    topics: Values | None = None
    campaigns: Values | None = None
    tags: Values | None = None
    countries: Annotated[tuple[Country, ...], Field(min_length=1, max_length=SELECTION_MAX)] | None = None
    regions: Values | None = None


class CountsSection(Section):
    """What fills a cap: touches, or `events`. The place is not recorded with a touch; select by it instead."""

    channels: Values | None = None
    categories: Values | None = None
    topics: Values | None = None
    campaigns: Values | None = None
    tags: Values | None = None
    events: Annotated[tuple[EventName, ...], Field(min_length=1)] | None = None


def _as_date(value: object) -> object:
    """A date, or a datetime: as TOML has them, or spelled as in JSON."""
    if value is None or isinstance(value, date):
        return value
    if isinstance(value, str):
        for parse in (date.fromisoformat, datetime.fromisoformat):
            with suppress(ValueError):
                return parse(value)
    raise ValueError("write a date, 2026-12-31, or an instant, 2026-12-31T09:00:00Z")


EffectiveDate = Annotated[Any, PlainValidator(_as_date)]  # Any, so that each is written out as what it is


class RuleSection(Section):
    """What every rule may carry. It holds in [from, until); dates without a time are whole days in UTC, the last one
    included.
    """

    select: SelectionSection = SelectionSection()
    enforce: bool = True
    effective_from: EffectiveDate = None
    effective_until: EffectiveDate = None
    citation: str | None = None
    source: str | None = None
    as_of: date | None = None
    note: str | None = None


class HeldBackSection(Section):
    """Touches below a priority leave so many slots of the cap alone."""

    slots: Annotated[int, Field(ge=1)]
    below_priority: int


class CapSection(RuleSection):
    """At most so many touches per period."""

    limit: Text
    counts: CountsSection | None = None
    per: tuple[Literal["subject"]] | None = None
    held_back: HeldBackSection | None = None


class CooldownSection(RuleSection):
    """No touches for a while after an event, on whichever channel it happened."""

    after: EventName
    lasts: Text = Field(alias="for")
    per: tuple[Literal["subject"]] | None = None


class LiftSection(Section):
    """A consent at a scope that names at least these parts; the other parts are the touch's own."""

    category: Text | None = None
    channel: Text | None = None
    topic: Text | None = None


class QuietHoursSection(RuleSection):
    """Open hours per weekday, local time; days that are not named are closed."""

    open: dict[str, Windows]
    closed_on: tuple[Text, ...] = ()
    open_on: dict[str, Windows] = {}
    zone: Text | None = None
    lifted_by: LiftSection | None = None


class ConsentSection(RuleSection):
    """An opt-in is required, and ends some time after it was given."""

    require: Literal["opt_in", "double_opt_in"]
    expires_after: Text | None = None


class LedgerSection(Section):
    """How long facts are kept: the horizon. Caps may not look further back."""

    keep: Text = "400 days"


class CustomerSection(Section):
    """What is assumed when the customer's own facts are missing."""

    timezones: Annotated[tuple[Text, ...], Field(min_length=1, max_length=ZONES_MAX)] | None = None
    country: Country | None = None
    region: Text | None = None


class TopicSection(Section):
    """Something that a customer subscribes to."""

    category: Text = "marketing"
    note: str | None = None


class WaiveSection(Section):
    """A rule of a pack that does not hold here, and why."""

    because: Text


class RulesModel(Section):
    """The four kinds of rules, by name."""

    consent: dict[Name, ConsentSection] = {}
    quiet_hours: dict[Name, QuietHoursSection] = {}
    caps: dict[Name, CapSection] = {}
    cooldowns: dict[Name, CooldownSection] = {}


class Pack(RulesModel):
    """Rules of a jurisdiction or a platform that policies extend. Facts with citation and date; not legal advice."""

    name: Text
    version: Text
    note: str | None = None


class PolicyModel(RulesModel):
    """A policy file."""

    name: Text = "policy"
    extends: tuple[Text, ...] = ()
    essential: tuple[Text, ...] = ("transactional",)
    channels: tuple[Name, ...] = ()
    categories: tuple[Name, ...] = ()
    week_starts: Weekday = "monday"
    in_doubt: Literal["hold", "resend"] = "hold"
    require_address: bool = False
    fail_open: tuple[Text, ...] = ()
    ledger: LedgerSection = LedgerSection()
    customer: CustomerSection = CustomerSection()
    topics: dict[Text, TopicSection] = {}
    waive: dict[Text, WaiveSection] = {}
