"""The distributed store, awaited: the same steps as `redis`, on connections of the event loop."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, TypeVar

from redis import asyncio as redis

from fairtouch.consent import Said, Scope
from fairtouch.errors import FairtouchError
from fairtouch.facts import Ask, Entry, Facts, Stale, SuppressionCause
from fairtouch.stores.port import Recorded, Settlement, Spoken, Utterance
from fairtouch.stores.redis_cluster_async import AsyncClusterConnections
from fairtouch.stores.redis_connections import DEADLINE_SECONDS
from fairtouch.stores.redis_connections_async import AsyncConnections
from fairtouch.stores.redis_deferrals import AsyncRedisDeferrals
from fairtouch.stores.redis_durability import OnEviction, durability_of
from fairtouch.stores.redis_steps import Step
from fairtouch.stores.redis_verbs import Verbs

T = TypeVar("T")


class AsyncRedisStore:
    """Keeps everything on the Redis that `client` talks to, as `RedisStore` does, together with any number of these.

    `client`: a `redis.asyncio.Redis` or `redis.asyncio.RedisCluster`, of which addresses and credentials are used.
    `prefix`: of every key. `deadline_seconds`: how long a call may take before it raises StoreUnavailable; a
    cancellation waits as long.
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
        connect: Any = AsyncClusterConnections if is_cluster else AsyncConnections
        self._connections: Final = connect(client, deadline_seconds, durability_of(durability))
        self._verbs: Final = Verbs(prefix, apart=is_cluster)
        self._on_eviction: Final = on_eviction

    async def _run(self, step: Step[T]) -> T:
        """Runs a step to its end."""
        try:
            asked = next(step)
            while True:
                try:
                    reply = await self._connections.call(asked)
                except FairtouchError as error:
                    asked = step.throw(error)
                else:
                    asked = step.send(reply)
        except StopIteration as done:
            result: T = done.value
            return result

    @property
    def deferrals(self) -> AsyncRedisDeferrals:
        """Where deferred touches are kept."""
        return AsyncRedisDeferrals(self._run, self._verbs.deferring)

    async def bind(self, namespace: bytes, fingerprint: bytes, keep: int) -> None:
        await self._run(self._verbs.registers.bind(namespace, fingerprint, keep, self._on_eviction))

    async def aclose(self) -> None:
        await self._connections.aclose()

    async def decide(self, asks: Sequence[Ask]) -> list[Facts | Stale]:
        return await self._run(self._verbs.deciding.decide(asks))

    async def confirm(
        self, customer: bytes, entry: Entry, scopes: Sequence[Scope | None], now: int | None
    ) -> Settlement:
        return await self._run(self._verbs.ledgers.confirm(customer, entry, scopes, now))

    async def release(self, customer: bytes, entry: Entry, now: int | None) -> Settlement:
        return await self._run(self._verbs.ledgers.release(customer, entry, now))

    async def record(self, customer: bytes, entry: Entry, keep: int, now: int | None) -> Recorded:
        return await self._run(self._verbs.ledgers.record(customer, entry, keep, now))

    async def history(self, customer: bytes) -> list[Entry]:
        return await self._run(self._verbs.ledgers.history(customer))

    async def prune(self, keep: int, now: int | None) -> AsyncIterator[int]:
        since = await self._run(self._verbs.pruning.oldest_kept(keep, now))
        for server in await self._run(self._verbs.pruning.servers()):
            cursor = None
            while cursor != 0:
                cursor, gone = await self._run(self._verbs.pruning.prune(server, cursor or 0, since))
                if gone:
                    yield gone

    async def complete_since(self) -> int:
        return await self._run(self._verbs.pruning.complete_since())

    async def say(self, utterances: Sequence[Utterance], now: int | None) -> list[int | None]:
        return await self._run(self._verbs.registers.say(utterances, now))

    async def said(
        self, customer: bytes, scopes: Sequence[Scope | None], now: int | None
    ) -> tuple[int, tuple[Said, ...]]:
        return await self._run(self._verbs.registers.said(customer, scopes, now))

    async def spoken(self, customer: bytes) -> list[Spoken]:
        return await self._run(self._verbs.registers.spoken(customer))

    async def suppress(self, address: bytes, cause: SuppressionCause, event_id: str | None, now: int | None) -> bool:  # noqa: ARG002
        return await self._run(self._verbs.registers.suppress(address, cause, event_id))

    async def unsuppress(self, address: bytes) -> bool:
        return await self._run(self._verbs.registers.unsuppress(address))

    async def suppressed(self, address: bytes) -> SuppressionCause | None:
        return await self._run(self._verbs.registers.suppressed(address))

    async def profile(self, customer: bytes) -> str:
        return await self._run(self._verbs.registers.profile(customer))

    async def replace_profile(self, customer: bytes, old: str, new: str) -> bool:
        return await self._run(self._verbs.registers.replace_profile(customer, old, new))
