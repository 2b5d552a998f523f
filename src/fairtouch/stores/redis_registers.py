"""What stands on Redis besides ledgers: consents, suppressions, profiles, and whose namespaces they are."""

import os
from collections.abc import Sequence
from operator import attrgetter
from typing import Final, cast

from fairtouch.consent import NOTHING, Said, Scope, Word, merge
from fairtouch.errors import StoreError
from fairtouch.facts import SuppressionCause
from fairtouch.stores.port import WRITTEN_OTHERWISE, Spoken, Utterance
from fairtouch.stores.redis_calls import PRIMARIES, PROBE, READ, SUPPRESS, UNSUPPRESS, Call, beside
from fairtouch.stores.redis_customers import REMEMBERED_SECONDS, SPOKEN, Customers
from fairtouch.stores.redis_documents import NEVER_WRITTEN, damaged
from fairtouch.stores.redis_durability import OnEviction, look_at
from fairtouch.stores.redis_entries import six, three
from fairtouch.stores.redis_steps import Step, all_of, server_now, until_done

_by_instant: Final = attrgetter("at")
_TOKEN_LENGTH: Final = 8  # stands before the evidence: tells a call that is run again from another one
_WORDS: Final = tuple(Word)


class Registers:
    """The verbs of `port.Consents`, `Suppressions` and `Profiles`, for one store's customers."""

    def __init__(self, customers: Customers) -> None:
        self._customers: Final = customers
        self._names: Final = customers.names

    def say(self, utterances: Sequence[Utterance], now: int | None) -> Step[list[int | None]]:
        """`port.Consents.say`."""
        clock = (yield from server_now()) if now is None else now
        if any(word.at is not None and word.at > clock for word in utterances):
            return [None if word.at is not None and word.at > clock else word.at for word in utterances]
        yield from self._names.give_numbers({word.scope for word in utterances})
        hers: dict[bytes, list[int]] = {}
        for place, word in enumerate(utterances):
            hers.setdefault(word.customer, []).append(place)
        said = yield from all_of(
            [self._say(customer, [utterances[place] for place in places], clock) for customer, places in hers.items()]
        )
        instants: list[int | None] = [None] * len(utterances)
        for places, found in zip(hers.values(), said, strict=True):
            for place, at in zip(places, found, strict=True):
                instants[place] = at
        return instants

    def _say(self, customer: bytes, utterances: Sequence[Utterance], clock: int) -> Step[list[int]]:
        """Keeps words of one customer, none of which lies in the future; their instants."""
        mine = os.urandom(_TOKEN_LENGTH)
        tried: list[tuple[list[int], bytes]] = []

        def attempt() -> Step[tuple[int, list[int]]]:
            kept = yield from self._customers.read(customer, SPOKEN if tried else 0, clock)
            for instants, name in tried:
                if kept.spoken.get(name, b"").startswith(mine):  # it was done, and the answer was lost: not again
                    return 1, instants
            said, instants, name = dict(kept.said), [], b""
            for word in utterances:
                last = max((max(words) for words in said.values()), default=0)
                at = max(clock, last + 1) if word.at is None else word.at
                said[word.scope] = merge(said.get(word.scope, NOTHING), word.word, at)
                instants.append(at)
                name = three(self._names.scope_ids[word.scope]) + bytes((_WORDS.index(word.word),)) + six(at)
                kept.order(b"HSETNX", 5, name, mine + word.evidence.encode())
            tried.append((instants, name))
            kept.document = kept.document._replace(words=self._names.packed(said))
            return (yield from self._customers.change(customer, kept, lasts=True)), instants

        return (yield from until_done(attempt))

    def said(
        self, customer: bytes, scopes: Sequence[Scope | None], now: int | None
    ) -> Step[tuple[int, tuple[Said, ...]]]:
        """`port.Consents.said`."""
        clock, seen, *rest = yield Call(READ, beside(self._customers.keys.document(customer)), (0,))
        kept = yield from self._customers.kept(seen, clock, *rest)
        said = kept.said
        return clock if now is None else now, tuple(said.get(scope, NOTHING) if scope else NOTHING for scope in scopes)

    def spoken(self, customer: bytes) -> Step[list[Spoken]]:
        """`port.Consents.spoken`."""
        kept = yield from self._customers.read(customer, SPOKEN, None)
        try:
            words = [
                Spoken(
                    self._names.scopes[int.from_bytes(name[:3], "big")],
                    _WORDS[name[3]],
                    int.from_bytes(name[4:], "big"),
                    evidence[_TOKEN_LENGTH:].decode(),
                )
                for name, evidence in kept.spoken.items()
            ]
        except NEVER_WRITTEN as error:
            raise damaged(error) from error
        return sorted(words, key=_by_instant)

    def suppress(self, address: bytes, cause: SuppressionCause, event_id: str | None) -> Step[bool]:
        """`port.Suppressions.suppress`."""
        key = self._customers.keys.suppression(address)
        event = b"" if event_id is None else event_id.encode()
        return bool((yield Call(SUPPRESS, (key, key + b":e"), (cause.encode(), event, os.urandom(8)), lasts=True)))

    def unsuppress(self, address: bytes) -> Step[bool]:
        """`port.Suppressions.unsuppress`."""
        key = self._customers.keys.suppression(address)
        mine = key + b":u:" + os.urandom(8).hex().encode()
        return bool((yield Call(UNSUPPRESS, (key, mine), (REMEMBERED_SECONDS,), lasts=True)))

    def suppressed(self, address: bytes) -> Step[SuppressionCause | None]:
        """`port.Suppressions.suppressed`."""
        return cause_of((yield Call(None, (self._customers.keys.suppression(address),), (b"GET",))))

    def profile(self, customer: bytes) -> Step[str]:
        """`port.Profiles.profile`."""
        kept = yield from self._customers.read(customer, 0, None)
        return kept.document.profile

    def replace_profile(self, customer: bytes, old: str, new: str) -> Step[bool]:
        """`port.Profiles.replace_profile`."""

        def attempt() -> Step[tuple[int, bool]]:
            kept = yield from self._customers.read(customer, 0, None)
            if kept.document.profile != old:
                return 1, False
            kept.document = kept.document._replace(profile=new)
            return (yield from self._customers.change(customer, kept, lasts=True)), True

        return (yield from until_done(attempt))

    # Whose it is

    def bind(self, namespace: bytes, fingerprint: bytes, keep: int, on_eviction: OnEviction) -> Step[None]:
        """`port.Store.bind`; and looks at the user's rights and at what the server may do to opt-outs."""
        key, name = self._customers.keys.namespaces, namespace.hex().encode()
        yield Call(PROBE, self._customers.keys.probes, ())
        yield Call(None, (key,), (b"HSETNX", name, fingerprint))
        owner = yield Call(None, (key,), (b"HGET", name))
        if owner != fingerprint:
            raise StoreError(WRITTEN_OTHERWISE)
        yield Call(None, (key,), (b"HSET", b"keep:" + name, keep))
        for server in (yield PRIMARIES) or (None,):
            told = yield [Call(None, (), (b"INFO", section), server=server) for section in (b"memory", b"persistence")]
            look_at(told, on_eviction)


def cause_of(value: bytes | None) -> SuppressionCause | None:
    """Why an address is suppressed; what follows the colon tells calls apart."""
    return cast("SuppressionCause", value.partition(b":")[0].decode()) if value else None
