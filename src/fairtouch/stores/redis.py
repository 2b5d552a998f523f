"""The distributed store: a Redis (or Valkey) for workers on many machines; a reservation is one round trip.

What is said to Redis stands behind `redis_verbs`, how it is packed in `redis_documents` and `redis_calls`, and on which
connection in `redis_connections`; here the steps of the verbs are run.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

import redis

from fairtouch.consent import Said, Scope
from fairtouch.errors import FairtouchError
from fairtouch.facts import Ask, Entry, Facts, Stale, SuppressionCause
from fairtouch.stores.port import Recorded, Settlement, Spoken, Utterance
from fairtouch.stores.redis_cluster import ClusterConnections
from fairtouch.stores.redis_connections import DEADLINE_SECONDS, Connections
from fairtouch.stores.redis_deferrals import RedisDeferrals
from fairtouch.stores.redis_durability import OnEviction, durability_of
from fairtouch.stores.redis_steps import Step
from fairtouch.stores.redis_verbs import Verbs

T = TypeVar("T")


class RedisStore:
    """Keeps everything on the Redis that `client` talks to. Safe for threads, processes and forks.

    `client`: a `redis.Redis` or a `redis.RedisCluster`, of which addresses and credentials are used; its pool, its
    retries and its time-outs are the app's own and stay as they are. `prefix`: of every key. `deadline_seconds`: how
    long a call may take before it raises StoreUnavailable. `durability`: what an opt-out must have reached before it is
    acknowledged: "memory", "replicated(1)" (so many replicas confirmed it) or "fsynced" (on the disk; Redis 7.2).
    `on_eviction`: "refuse" raises StoreError for a server that may evict opt-outs, "warn" logs it.
    """

    def __init__(
        self,
        client: redis.Redis | redis.RedisCluster,
        *,
        prefix: str = "fairtouch",
        deadline_seconds: float = DEADLINE_SECONDS,
        durability: str = "memory",
        on_eviction: OnEviction = "warn",
    ) -> None:
        self.durability = durability
        is_cluster = isinstance(client, redis.RedisCluster)
        connect: Any = ClusterConnections if is_cluster else Connections
        self._connections: Final = connect(client, deadline_seconds, durability_of(durability))
        self._verbs: Final = Verbs(prefix, apart=is_cluster)
        self._on_eviction: Final = on_eviction

    def _run(self, step: Step[T]) -> T:
        """Runs a step to its end."""
        try:
            asked = next(step)
            while True:
                try:
                    reply = self._connections.call(asked)
                except FairtouchError as error:
                    asked = step.throw(error)
                else:
                    asked = step.send(reply)
        except StopIteration as done:
            result: T = done.value
            return result

    @property
    def deferrals(self) -> RedisDeferrals:
        """Where deferred touches are kept."""
        return RedisDeferrals(self._run, self._verbs.deferring)

    def bind(self, namespace: bytes, fingerprint: bytes, keep: int) -> None:
        self._run(self._verbs.registers.bind(namespace, fingerprint, keep, self._on_eviction))

    def close(self) -> None:
        self._connections.close()

    def decide(self, asks: Sequence[Ask]) -> list[Facts | Stale]:
        return self._run(self._verbs.deciding.decide(asks))

    def confirm(self, customer: bytes, entry: Entry, scopes: Sequence[Scope | None], now: int | None) -> Settlement:
        return self._run(self._verbs.ledgers.confirm(customer, entry, scopes, now))

    def release(self, customer: bytes, entry: Entry, now: int | None) -> Settlement:
        return self._run(self._verbs.ledgers.release(customer, entry, now))

    def record(self, customer: bytes, entry: Entry, keep: int, now: int | None) -> Recorded:
        return self._run(self._verbs.ledgers.record(customer, entry, keep, now))

    def history(self, customer: bytes) -> list[Entry]:
        return self._run(self._verbs.ledgers.history(customer))

    def prune(self, keep: int, now: int | None) -> Iterator[int]:
        since = self._run(self._verbs.pruning.oldest_kept(keep, now))
        for server in self._run(self._verbs.pruning.servers()):
            cursor = None
            while cursor != 0:
                cursor, gone = self._run(self._verbs.pruning.prune(server, cursor or 0, since))
                if gone:
                    yield gone

    def complete_since(self) -> int:
        return self._run(self._verbs.pruning.complete_since())

    def say(self, utterances: Sequence[Utterance], now: int | None) -> list[int | None]:
        return self._run(self._verbs.registers.say(utterances, now))

    def said(self, customer: bytes, scopes: Sequence[Scope | None], now: int | None) -> tuple[int, tuple[Said, ...]]:
        return self._run(self._verbs.registers.said(customer, scopes, now))

    def spoken(self, customer: bytes) -> list[Spoken]:
        return self._run(self._verbs.registers.spoken(customer))

    def suppress(self, address: bytes, cause: SuppressionCause, event_id: str | None, now: int | None) -> bool:  # noqa: ARG002
        return self._run(self._verbs.registers.suppress(address, cause, event_id))

    def unsuppress(self, address: bytes) -> bool:
        return self._run(self._verbs.registers.unsuppress(address))

    def suppressed(self, address: bytes) -> SuppressionCause | None:
        return self._run(self._verbs.registers.suppressed(address))

    def profile(self, customer: bytes) -> str:
        return self._run(self._verbs.registers.profile(customer))

    def replace_profile(self, customer: bytes, old: str, new: str) -> bool:
        return self._run(self._verbs.registers.replace_profile(customer, old, new))
