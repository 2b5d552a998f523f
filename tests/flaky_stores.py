"""Stores that do not always answer."""

from collections import Counter
from collections.abc import Collection
from typing import Any

from fairtouch import StoreUnavailable
from fairtouch.stores.memory import MemoryStore


class Flaky(MemoryStore):
    """A store that leaves some calls of a verb unanswered, by their number."""

    def __init__(self, **unanswered: Collection[int]) -> None:
        super().__init__()
        self.unanswered, self.calls = unanswered, Counter[str]()

    def _hear(self, verb: str) -> None:
        self.calls[verb] += 1
        if self.calls[verb] in self.unanswered.get(verb, ()):
            raise StoreUnavailable("the store did not answer")

    def decide(self, *args: Any) -> Any:
        """Decides, or does not answer."""
        self._hear("decide")
        return super().decide(*args)

    def confirm(self, *args: Any) -> Any:
        """Confirms, or does not answer."""
        self._hear("confirm")
        return super().confirm(*args)

    def release(self, *args: Any) -> Any:
        """Releases, or does not answer."""
        self._hear("release")
        return super().release(*args)
