"""Whatever happens in whatever order, `AsyncGovernor` says what `Governor` says, and what the model says."""

from functools import cached_property
from typing import Any

from hypothesis import HealthCheck, settings

from fairtouch import Governor, Policy
from fairtouch.stores.memory_async import AsyncMemoryStore
from tests.in_a_loop import GovernorInALoop
from tests.test_stores_agree import StoresAgree, _redis  # noqa: F401 - a fixture
from tests.twins import Twins


class FrontsAgree(StoresAgree):
    """The same operations on a governor, and on asynchronous ones over memory, SQLite and Redis."""

    @cached_property
    def awaited(self) -> AsyncMemoryStore:
        """The store that two policies share."""
        return AsyncMemoryStore()

    def govern(self, policy: dict[str, Any]) -> Twins:
        """A governor of each kind."""
        loaded = Policy.model_validate(policy)
        memory, sqlite, redis = self.stores
        return Twins(
            [
                Governor(loaded, memory, clock=self.clock),
                GovernorInALoop(loaded, self.awaited, clock=self.clock),
                GovernorInALoop(loaded, sqlite, clock=self.clock),
                GovernorInALoop(loaded, redis, clock=self.clock),
            ]
        )


TestFrontsAgree = FrontsAgree.TestCase
TestFrontsAgree.settings = settings(
    max_examples=15,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
