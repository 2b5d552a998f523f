"""What a governor keeps besides ledgers: consents, suppressed addresses, and customers' own facts.

Rule 1: a word of the customer is on the disk, or wherever the store keeps it best, before the call returns. Rule 2:
an error says that nothing was recorded, and that is true.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, get_args

from fairtouch.bounds import EVIDENCE_BYTES_MAX, TEXT_LENGTH_MAX
from fairtouch.clock import Clock, injected_now
from fairtouch.consent import ConsentEvent, ConsentStatus, Scope, Word, covering, standing
from fairtouch.consent_files import ConsentRow, ImportReport, read_batches
from fairtouch.digests import Digests
from fairtouch.errors import StoreError, StoreUnavailable, TouchError
from fairtouch.facts import SuppressionCause
from fairtouch.instants import from_ms, to_ms
from fairtouch.periods import parse_limit
from fairtouch.policy import Policy
from fairtouch.profile import Profile
from fairtouch.profile import load as load_profile
from fairtouch.stores.port import Store, Utterance
from fairtouch.touch import Kind, check_text

CHANGES_MAX: Final = 100  # attempts to change a profile that others keep changing
KEEP: Final[Any] = object()
CAUSES: Final[tuple[str, ...]] = get_args(SuppressionCause)


class ConsentRegister:
    """What customers said, per scope: category, channel and topic, each a value or any (left out).

    A word without `at` is the latest word of its scope. Raises TouchError for unknown words, naive or future
    instants, evidence that is no JSON or too long; StoreUnavailable when the store does not answer. Then nothing was
    recorded.
    """

    def __init__(self, store: Store, policy: Policy, digests: Digests, clock: Clock | None) -> None:
        self._store, self._policy, self._digests, self._clock = store, policy, digests, clock

    def opt_in(
        self,
        customer: str,
        *,
        category: str | None = None,
        channel: str | None = None,
        topic: str | None = None,
        at: datetime | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> ConsentEvent:
        """The customer agreed. `evidence`: who, when, how, and what she was told (GDPR Art. 7(1))."""
        return self._say(customer, Word.OPT_IN, Scope(category, channel, topic), at, evidence)

    def opt_out(
        self,
        customer: str,
        *,
        category: str | None = None,
        channel: str | None = None,
        topic: str | None = None,
        at: datetime | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> ConsentEvent:
        """The customer withdrew; the very next decision knows. Without a category: of every one but the essential
        ones.
        """
        return self._say(customer, Word.OPT_OUT, Scope(category, channel, topic), at, evidence)

    def request(
        self,
        customer: str,
        *,
        category: str | None = None,
        channel: str | None = None,
        topic: str | None = None,
        at: datetime | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> ConsentEvent:
        """Double opt-in, first half: the customer is asked to confirm. Asking is itself a touch."""
        return self._say(customer, Word.REQUEST, Scope(category, channel, topic), at, evidence)

    def confirm(
        self,
        customer: str,
        *,
        category: str | None = None,
        channel: str | None = None,
        topic: str | None = None,
        at: datetime | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> ConsentEvent:
        """Double opt-in, second half.

        Raises TouchError when no request stands at this scope: none was made, or the customer opted out since. An
        old link in an old message revives nothing.
        """
        scope = Scope(category, channel, topic)
        self._policy.check_scope(*scope)
        wider = covering(*scope, essential=category in self._policy.essential)
        _, said = self._store.said(self._customer(customer), (scope, *wider), injected_now(self._clock))
        if said[0].requested <= max(words.opted_out for words in said):
            raise TouchError(
                "no request stands at this scope, so nothing can be confirmed; call consent.request first; "
                "nothing was recorded"
            )
        return self._say(customer, Word.CONFIRM, scope, at, evidence)

    def withdraw(self, customer: bytes, scope: Scope, evidence: Mapping[str, Any]) -> ConsentEvent:
        """An opt-out of whoever has this digest, as an unsubscribe link names her (`fairtouch.unsubscribe`).

        The scope need not be one that the policy still knows: a link works for ever. Where the customer said nothing
        else since she opted out of just this, that word stands and none is added.
        """
        for spoken in reversed(self._store.spoken(customer)):
            if spoken.word is not Word.OPT_OUT:
                break
            if spoken.scope == scope:
                return ConsentEvent(spoken.word, scope, from_ms(spoken.at), evidence_of(spoken.evidence))
        return self._keep(customer, Word.OPT_OUT, scope, None, evidence)

    def _say(
        self, customer: str, word: Word, scope: Scope, at: datetime | None, evidence: Mapping[str, Any] | None
    ) -> ConsentEvent:
        self._policy.check_scope(*scope)
        return self._keep(self._customer(customer), word, scope, at, evidence)

    def _keep(
        self, customer: bytes, word: Word, scope: Scope, at: datetime | None, evidence: Mapping[str, Any] | None
    ) -> ConsentEvent:
        instant = None if at is None else to_ms(at)
        text = evidence_text(evidence)
        words = [Utterance(customer, scope, word, instant, text)]
        kept = self._store.say(words, injected_now(self._clock))[0]
        if kept is None:
            raise TouchError(f"at={at} lies in the future; nothing was recorded")
        return ConsentEvent(word, scope, from_ms(kept), dict(evidence or {}), self._store.durability)

    def _customer(self, customer: str) -> bytes:
        check_text("customer", customer, TEXT_LENGTH_MAX)
        return self._digests.customer(customer)

    def status(
        self, customer: str, *, category: str | None = None, channel: str | None = None, topic: str | None = None
    ) -> ConsentStatus:
        """Where the customer stands on a scope: what covers it decides. A declared topic stands for its category."""
        self._policy.check_scope(category, channel, topic)
        if category is None and topic is not None and topic in self._policy.topics:
            category = self._policy.topics[topic].category
        scopes = covering(category, channel, topic, essential=category in self._policy.essential)
        now, said = self._store.said(self._customer(customer), scopes, injected_now(self._clock))
        kind = Kind(channel or "", category, topic)
        ending = [
            rule.after
            for rule in self._policy.rules.consents
            if rule.after is not None and rule.enforced(now) and rule.select.applies(kind, None, None)
        ]
        return standing(scopes, said, ending, now)

    def history(self, customer: str) -> list[ConsentEvent]:
        """Every word with its evidence, oldest first."""
        return [
            ConsentEvent(spoken.word, spoken.scope, from_ms(spoken.at), evidence_of(spoken.evidence))
            for spoken in self._store.spoken(self._customer(customer))
        ]

    def import_file(self, path: str | Path, *, progress: Callable[[int], None] | None = None) -> ImportReport:
        """Reads a CSV file with the columns `customer, channel, topic, category, status, at`; `progress` gets the
        rows done so far.

        Status: `opted_in`, `confirmed` (double opt-in), `opted_out`, `pending`. `at`: ISO 8601 with a zone. A row
        without it lifts nothing: an opt-in counts as older than every other word, an opt-out as given now. Raises
        TouchError with the line numbers when any row cannot be used; then nothing was recorded. A file may be
        imported again: it changes nothing.
        """
        for _ in read_batches(path, self._policy.check_scope):
            pass  # the whole file is checked before the first word is kept
        report = ImportReport()
        for batch in read_batches(path, self._policy.check_scope):
            report = self._import(batch, report, progress)
        return report

    def _import(
        self, rows: Sequence[ConsentRow], report: ImportReport, progress: Callable[[int], None] | None
    ) -> ImportReport:
        evidence = '{"source":"import"}'
        words = [Utterance(self._customer(row.customer), row.scope, row.word, row.at, evidence) for row in rows]
        instants = self._store.say(words, injected_now(self._clock))
        if None in instants:
            line = rows[instants.index(None)].line
            raise TouchError(
                f"line {line}: the instant lies in the future; the {report.rows} rows before this batch were recorded"
            )
        report = report.with_rows(rows)
        if progress is not None:
            progress(report.rows)
        return report


def evidence_of(text: str) -> dict[str, Any]:
    """The evidence from the text that a store keeps. Raises StoreError for any other text."""
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise StoreError("the evidence of a consent cannot be read: the store is damaged; restore it") from error


def evidence_text(evidence: Mapping[str, Any] | None) -> str:
    """The text that a store keeps of it. Raises TouchError."""
    try:
        text = json.dumps(dict(evidence or {}), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TouchError(
            "evidence must be a table of texts, numbers, lists and tables (JSON); nothing was recorded"
        ) from error
    if len(text) > EVIDENCE_BYTES_MAX:
        raise TouchError(
            f"evidence is longer than {EVIDENCE_BYTES_MAX} bytes; keep a reference to it instead (nothing was recorded)"
        )
    return text


class SuppressionRegister:
    """Addresses that must not be contacted on a channel. They bind the address, whoever's it is."""

    def __init__(self, store: Store, policy: Policy, digests: Digests, clock: Clock | None) -> None:
        self._store, self._policy, self._digests, self._clock = store, policy, digests, clock

    def _key(self, address: str, channel: str) -> bytes:
        self._policy.check_scope(None, channel, None)
        return self._digests.address(address, channel)

    def add(
        self, address: str, channel: str, cause: SuppressionCause = "manual", *, event_id: str | None = None
    ) -> bool:
        """Suppresses the address; whether that is new. A repeated `event_id` changes nothing."""
        if cause not in CAUSES:
            raise TouchError(f"cause={str(cause)[:40]!r} is none of {', '.join(CAUSES)}; nothing was recorded")
        if event_id is not None:
            check_text("event_id", event_id, TEXT_LENGTH_MAX)
        now = injected_now(self._clock)
        return self._store.suppress(self._key(address, channel), cause, event_id, now)

    def suppress(self, address: bytes, cause: SuppressionCause) -> bool:
        """Suppresses whichever address has this digest, as an unsubscribe link names it; whether that is new."""
        return self._store.suppress(address, cause, None, injected_now(self._clock))

    def remove(self, address: str, channel: str) -> bool:
        """Lifts the suppression; whether there was one."""
        return self._store.unsuppress(self._key(address, channel))

    def contains(self, address: str, channel: str) -> bool:
        """Whether the address is suppressed."""
        return self._store.suppressed(self._key(address, channel)) is not None


class CustomerRegister:
    """Customers' own facts: zone, place, groups, wishes."""

    def __init__(self, store: Store, policy: Policy, digests: Digests) -> None:
        self._store, self._policy, self._digests = store, policy, digests

    def _key(self, customer: str) -> bytes:
        check_text("customer", customer, TEXT_LENGTH_MAX)
        return self._digests.customer(customer)

    def set(
        self,
        customer: str,
        *,
        timezone: str | None = KEEP,
        country: str | None = KEEP,
        region: str | None = KEEP,
        groups: Sequence[str] = KEEP,
        wishes: Mapping[str, str] | None = KEEP,
        quiet_hours: Mapping[str, Any] | None = KEEP,
    ) -> Profile:
        """Stores what is given and keeps the rest; None forgets a value.

        `timezone`: an IANA name. `country`: ISO 3166-1 ("US"). `region`: ISO 3166-2 ("US-FL"). `wishes`: the
        customer's own caps by channel, {"email": "1 per 7 days"}. `quiet_hours`: her own open hours by weekday, local
        time, as in a policy. Raises TouchError.
        """
        given = {
            "timezone": timezone,
            "country": country,
            "region": region,
            "groups": groups,
            "wishes": wishes,
            "quiet_hours": quiet_hours,
        }
        changes = {name: value for name, value in given.items() if value is not KEEP}
        if wishes is not KEEP and wishes:
            check_wishes(self._policy, wishes)
        key = self._key(customer)
        for _ in range(CHANGES_MAX):
            old = self._store.profile(key)
            profile = load_profile(old).with_changes(changes)
            if self._store.replace_profile(key, old, profile.dump()):
                return profile
        raise StoreUnavailable("others keep changing this customer's facts; nothing was recorded")

    def get(self, customer: str) -> Profile:
        """What is stored; a profile without anything when nothing is."""
        return load_profile(self._store.profile(self._key(customer)))


def check_wishes(policy: Policy, wishes: Mapping[str, str]) -> None:
    """Raises TouchError for a wish on a channel that the policy does not know, or beyond its horizon."""
    for channel, text in wishes.items():
        policy.check_scope(None, channel, None)
        try:
            _, period = parse_limit(text, week_starts=0)
        except ValueError:
            continue  # the profile says it better
        if period.reach > policy.keep:
            keep = policy.ledger.keep
            raise TouchError(
                f"wishes[{channel!r}] = {text!r} looks further back than facts are kept (ledger.keep = {keep!r}); "
                "nothing was recorded"
            )
