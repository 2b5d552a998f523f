"""What is stored with a customer: zone, place, groups, and her own wishes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fairtouch.bounds import GROUPS_MAX, NAME_LENGTH_MAX, WISHES_MAX
from fairtouch.errors import StoreError, TouchError
from fairtouch.hours import parse_hours
from fairtouch.periods import parse_limit
from fairtouch.touch import check_country, check_text
from fairtouch.zones import check_zone


@dataclass(frozen=True, slots=True, repr=False)
class Profile:
    """A customer's own facts. `wishes`: caps by channel ("email": "1 per 7 days"); `quiet_hours`: open hours by
    weekday, local time.

    Wishes and quiet hours hold for every category but the policy's essential ones. Raises TouchError when a value
    cannot be used.
    """

    timezone: str | None = None
    country: str | None = None
    region: str | None = None
    groups: tuple[str, ...] = ()
    wishes: Mapping[str, str] | None = None
    quiet_hours: Mapping[str, str | Sequence[str]] | None = None

    def __post_init__(self) -> None:
        if self.timezone is not None:
            check_zone(self.timezone)
        if self.country is not None:
            check_country(self.country)
        if self.region is not None:
            check_text("region", self.region, NAME_LENGTH_MAX)
        object.__setattr__(self, "groups", _groups(self.groups))
        _check_wishes({} if self.wishes is None else self.wishes)
        if self.quiet_hours is not None:
            _check_hours(self.quiet_hours)

    def __repr__(self) -> str:
        return f"Profile(timezone={self.timezone!r}, country={self.country!r}, region={self.region!r})"

    def with_changes(self, changes: Mapping[str, Any]) -> "Profile":
        """The profile after some of its facts changed; None forgets one. Raises TouchError."""
        if changes.get("groups", ()) is None:
            changes = {**changes, "groups": ()}
        return replace(self, **changes)

    def dump(self) -> str:
        """The one spelling under which a store keeps and compares it; empty when nothing is known."""
        known = {name: value for name in self.__slots__ if (value := getattr(self, name))}
        return json.dumps(known, sort_keys=True, separators=(",", ":")) if known else ""


def load(text: str) -> Profile:
    """The profile that `dump` spelled. Raises StoreError when the text says nothing that this machine understands."""
    if not text:
        return Profile()
    try:
        known: dict[str, Any] = json.loads(text)
        return Profile(**known)
    except (ValueError, TypeError, TouchError) as error:
        raise StoreError(
            f"a stored profile cannot be read ({type(error).__name__}): the store is damaged, of a newer fairtouch, "
            "or this machine lacks a time zone that another one knows (update tzdata); nothing was recorded"
        ) from error


def _groups(groups: object) -> tuple[str, ...]:
    if isinstance(groups, str) or not isinstance(groups, list | tuple | set | frozenset):
        raise TouchError(f"groups must be a list of texts, not {type(groups).__name__}; nothing was recorded")
    if len(groups) > GROUPS_MAX:
        raise TouchError(f"groups holds {len(groups)} values, {GROUPS_MAX} are allowed; nothing was recorded")
    for group in groups:
        check_text("groups", group, NAME_LENGTH_MAX)
    return tuple(sorted(set(groups)))


def _check_hours(weekly: object) -> None:
    if not isinstance(weekly, Mapping):
        raise TouchError(
            "quiet_hours must be a table of open hours by weekday, {'mon-fri': '09:00-17:00'}; nothing was recorded"
        )
    try:
        parse_hours(weekly)
    except (ValueError, TypeError) as error:
        raise TouchError(f"quiet_hours: {error}; nothing was recorded") from error


def _check_wishes(wishes: object) -> None:
    if not isinstance(wishes, Mapping) or len(wishes) > WISHES_MAX:
        raise TouchError(f"wishes must be a table of at most {WISHES_MAX} limits by channel; nothing was recorded")
    for channel, limit in wishes.items():
        check_text("wishes", channel, NAME_LENGTH_MAX)
        try:
            parse_limit(str(limit), week_starts=0)
        except ValueError as error:
            raise TouchError(f"wishes[{channel!r}]: {error}; nothing was recorded") from error
