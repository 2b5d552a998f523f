"""What an asynchronous governor keeps besides ledgers: `registers`, awaited.

Rule 1: the words are those of `registers`, line for line (`tests/test_mirror.py`). Rule 2: what both share is imported
from there.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from fairtouch.bounds import TEXT_LENGTH_MAX
from fairtouch.clock import Clock, injected_now
from fairtouch.consent import ConsentEvent, ConsentStatus, Scope, Word, covering, standing
from fairtouch.consent_files import ConsentRow, ImportReport, read_batches
from fairtouch.digests import Digests
from fairtouch.errors import StoreUnavailable, TouchError
from fairtouch.facts import SuppressionCause
from fairtouch.instants import from_ms, to_ms
from fairtouch.policy import Policy
from fairtouch.profile import Profile
from fairtouch.profile import load as load_profile
from fairtouch.registers import CAUSES, CHANGES_MAX, KEEP, check_wishes, evidence_of, evidence_text
from fairtouch.stores.port import Utterance
from fairtouch.stores.port_async import Opened
from fairtouch.touch import Kind, check_text


class AsyncConsentRegister:
    """What customers said, per scope: category, channel and topic, each a value or any (left out).

    A word without `at` is the latest word of its scope. Raises TouchError for unknown words, naive or future
    instants, evidence that is no JSON or too long; StoreUnavailable when the store does not answer. Then nothing was
    recorded.
    """

    def __init__(self, store: Opened, policy: Policy, digests: Digests, clock: Clock | None) -> None:
        self._store, self._policy, self._digests, self._clock = store, policy, digests, clock

    async def opt_in(
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
        return await self._say(customer, Word.OPT_IN, Scope(category, channel, topic), at, evidence)

    async def opt_out(
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
        return await self._say(customer, Word.OPT_OUT, Scope(category, channel, topic), at, evidence)

    async def request(
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
        return await self._say(customer, Word.REQUEST, Scope(category, channel, topic), at, evidence)

    async def confirm(
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
        _, said = await (await self._store()).said(self._customer(customer), (scope, *wider), injected_now(self._clock))
        if said[0].requested <= max(words.opted_out for words in said):
            raise TouchError(
                "no request stands at this scope, so nothing can be confirmed; call consent.request first; "
                "nothing was recorded"
            )
        return await self._say(customer, Word.CONFIRM, scope, at, evidence)

    async def withdraw(self, customer: bytes, scope: Scope, evidence: Mapping[str, Any]) -> ConsentEvent:
        """An opt-out of whoever has this digest, as an unsubscribe link names her (`fairtouch.unsubscribe`).

        The scope need not be one that the policy still knows: a link works for ever. Where the customer said nothing
        else since she opted out of just this, that word stands and none is added.
        """
        for spoken in reversed(await (await self._store()).spoken(customer)):
            if spoken.word is not Word.OPT_OUT:
                break
            if spoken.scope == scope:
                return ConsentEvent(spoken.word, scope, from_ms(spoken.at), evidence_of(spoken.evidence))
        return await self._keep(customer, Word.OPT_OUT, scope, None, evidence)

    async def _say(
        self, customer: str, word: Word, scope: Scope, at: datetime | None, evidence: Mapping[str, Any] | None
    ) -> ConsentEvent:
        self._policy.check_scope(*scope)
        return await self._keep(self._customer(customer), word, scope, at, evidence)

    async def _keep(
        self, customer: bytes, word: Word, scope: Scope, at: datetime | None, evidence: Mapping[str, Any] | None
    ) -> ConsentEvent:
        instant = None if at is None else to_ms(at)
        text = evidence_text(evidence)
        words = [Utterance(customer, scope, word, instant, text)]
        kept = (await (await self._store()).say(words, injected_now(self._clock)))[0]
        if kept is None:
            raise TouchError(f"at={at} lies in the future; nothing was recorded")
        return ConsentEvent(word, scope, from_ms(kept), dict(evidence or {}), (await self._store()).durability)

    def _customer(self, customer: str) -> bytes:
        check_text("customer", customer, TEXT_LENGTH_MAX)
        return self._digests.customer(customer)

    async def status(
        self, customer: str, *, category: str | None = None, channel: str | None = None, topic: str | None = None
    ) -> ConsentStatus:
        """Where the customer stands on a scope: what covers it decides. A declared topic stands for its category."""
        self._policy.check_scope(category, channel, topic)
        if category is None and topic is not None and topic in self._policy.topics:
            category = self._policy.topics[topic].category
        scopes = covering(category, channel, topic, essential=category in self._policy.essential)
        now, said = await (await self._store()).said(self._customer(customer), scopes, injected_now(self._clock))
        kind = Kind(channel or "", category, topic)
        ending = [
            rule.after
            for rule in self._policy.rules.consents
            if rule.after is not None and rule.enforced(now) and rule.select.applies(kind, None, None)
        ]
        return standing(scopes, said, ending, now)

    async def history(self, customer: str) -> list[ConsentEvent]:
        """Every word with its evidence, oldest first."""
        return [
            ConsentEvent(spoken.word, spoken.scope, from_ms(spoken.at), evidence_of(spoken.evidence))
            for spoken in await (await self._store()).spoken(self._customer(customer))
        ]

    async def import_file(self, path: str | Path, *, progress: Callable[[int], None] | None = None) -> ImportReport:
        """Reads a CSV file with the columns `customer, channel, topic, category, status, at`; `progress` gets the
        rows done so far.

        Status: `opted_in`, `confirmed` (double opt-in), `opted_out`, `pending`. `at`: ISO 8601 with a zone. A row
        without it lifts nothing: an opt-in counts as older than every other word, an opt-out as given now. Raises
        TouchError with the line numbers when any row cannot be used; then nothing was recorded. A file may be
        imported again: it changes nothing.
        """
        for _ in read_batches(path, self._policy.check_scope):
            await asyncio.sleep(0)  # the whole file is checked before the first word is kept
        report = ImportReport()
        for batch in read_batches(path, self._policy.check_scope):
            report = await self._import(batch, report, progress)
        return report

    async def _import(
        self, rows: Sequence[ConsentRow], report: ImportReport, progress: Callable[[int], None] | None
    ) -> ImportReport:
        evidence = '{"source":"import"}'
        words = [Utterance(self._customer(row.customer), row.scope, row.word, row.at, evidence) for row in rows]
        instants = await (await self._store()).say(words, injected_now(self._clock))
        if None in instants:
            line = rows[instants.index(None)].line
            raise TouchError(
                f"line {line}: the instant lies in the future; the {report.rows} rows before this batch were recorded"
            )
        report = report.with_rows(rows)
        if progress is not None:
            progress(report.rows)
        return report


class AsyncSuppressionRegister:
    """Addresses that must not be contacted on a channel. They bind the address, whoever's it is."""

    def __init__(self, store: Opened, policy: Policy, digests: Digests, clock: Clock | None) -> None:
        self._store, self._policy, self._digests, self._clock = store, policy, digests, clock

    def _key(self, address: str, channel: str) -> bytes:
        self._policy.check_scope(None, channel, None)
        return self._digests.address(address, channel)

    async def add(
        self, address: str, channel: str, cause: SuppressionCause = "manual", *, event_id: str | None = None
    ) -> bool:
        """Suppresses the address; whether that is new. A repeated `event_id` changes nothing."""
        if cause not in CAUSES:
            raise TouchError(f"cause={str(cause)[:40]!r} is none of {', '.join(CAUSES)}; nothing was recorded")
        if event_id is not None:
            check_text("event_id", event_id, TEXT_LENGTH_MAX)
        now = injected_now(self._clock)
        return await (await self._store()).suppress(self._key(address, channel), cause, event_id, now)

    async def suppress(self, address: bytes, cause: SuppressionCause) -> bool:
        """Suppresses whichever address has this digest, as an unsubscribe link names it; whether that is new."""
        return await (await self._store()).suppress(address, cause, None, injected_now(self._clock))

    async def remove(self, address: str, channel: str) -> bool:
        """Lifts the suppression; whether there was one."""
        return await (await self._store()).unsuppress(self._key(address, channel))

    async def contains(self, address: str, channel: str) -> bool:
        """Whether the address is suppressed."""
        return await (await self._store()).suppressed(self._key(address, channel)) is not None


class AsyncCustomerRegister:
    """Customers' own facts: zone, place, groups, wishes."""

    def __init__(self, store: Opened, policy: Policy, digests: Digests) -> None:
        self._store, self._policy, self._digests = store, policy, digests

    def _key(self, customer: str) -> bytes:
        check_text("customer", customer, TEXT_LENGTH_MAX)
        return self._digests.customer(customer)

    async def set(
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
            old = await (await self._store()).profile(key)
            profile = load_profile(old).with_changes(changes)
            if await (await self._store()).replace_profile(key, old, profile.dump()):
                return profile
        raise StoreUnavailable("others keep changing this customer's facts; nothing was recorded")

    async def get(self, customer: str) -> Profile:
        """What is stored; a profile without anything when nothing is."""
        return load_profile(await (await self._store()).profile(self._key(customer)))
