"""Who is measured, by group."""

from typing import Final

from benchmarks.contest import Group
from benchmarks.contestants.bytecodes import BYTECODES
from benchmarks.contestants.front import FRONT
from benchmarks.contestants.imports import IMPORTS
from benchmarks.contestants.memory import MEMORY
from benchmarks.contestants.redis import REDIS
from benchmarks.contestants.screening import SCREENING
from benchmarks.contestants.sqlite import SQLITE, SQLITE_NORMAL

GROUPS: Final[dict[str, Group]] = {
    group.name: group for group in (MEMORY, BYTECODES, FRONT, SQLITE, SQLITE_NORMAL, REDIS, SCREENING, IMPORTS)
}
