"""Who is measured, by group."""

from typing import Final

from benchmarks.contest import Group
from benchmarks.contestants.bytecodes import BYTECODES
from benchmarks.contestants.front import FRONT
from benchmarks.contestants.imports import IMPORTS
from benchmarks.contestants.mail import MAIL
from benchmarks.contestants.memory import MEMORY
from benchmarks.contestants.redis import REDIS
from benchmarks.contestants.redis_growth import GROWTH
from benchmarks.contestants.redis_idle import IDLE
from benchmarks.contestants.screening import SCREENING
from benchmarks.contestants.sqlite import SQLITE, SQLITE_NORMAL

_ON_REDIS: Final = (REDIS, GROWTH, IDLE)
_ALL: Final = (MEMORY, BYTECODES, FRONT, SQLITE, SQLITE_NORMAL, *_ON_REDIS, SCREENING, MAIL, IMPORTS)

GROUPS: Final[dict[str, Group]] = {group.name: group for group in _ALL}
