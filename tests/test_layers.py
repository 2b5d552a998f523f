"""A room of the house imports only from the rooms above it."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

# Each line may import from the lines above it, never from those below. A package (policy, stores, …) is one room.
# Moving a line is a decision about the design: say why in docs/decisions/.
ROOMS = [
    "bounds",  #         every limit has a limit
    "errors",  #         what can fail
    "instants",  #       milliseconds since the epoch, and back
    "touch",  #          what someone wants to send
    "addresses",  #      one rule of normalisation
    "spellings",  #      what people type, read into addresses on request
    "digests",  #        what a store sees instead of a customer
    "reasons",  #        the closed list of why-nots
    "zones",  #          what a local clock reads, and when
    "periods",  #        rolling and calendar periods → instants
    "hours",  #          weekly hours, dates, recurrences → next open instant
    "consent",  #        what the customer said
    "profile",  #        what is known of a customer
    "policy",  #         what is fair
    "plan",  #           conditions, and what a store compares with
    "planning",  #       policy + touch → plan
    "facts",  #          what a store is asked, and what it answers
    "breaches",  #       which answers a store must not give
    "checks",  #         plan + facts → every rule, passed or not
    "waiting",  #        plan + facts → next_allowed_at
    "records",  #        a decision as plain data
    "explaining",  #     a decision in plain words
    "decision",  #       plan + facts → Decision
    "clock",  #          the one place that reads the time
    "finishing",  #      what was begun ends, whoever cancels
    "premises",  #       what a governor stands on
    "stores",  #         the protocol and those who keep it
    "asking",  #         touch → ask, answer → decision: what both fronts share
    "settling",  #       what became of a reservation
    "in_doubt",  #       which exceptions say nothing about the send
    "feedback",  #       what the customer did, and which of it suppresses
    "consent_files",  #  CSV rows → words
    "registers",  #      consents, suppressions, customers' own facts
    "registers_async",  # their twins
    "deciding",  #       touches → decisions, through one store
    "deciding_async",  # its twin
    "guarding",  #       reserved before a send, settled after
    "guarding_async",  # its twin
    "governor",  #       the front
    "governor_async",  # its twin
    "unsubscribe",  #    tokens that let a person out
    "deferral",  #       a queue of touches to be sent later
    "pacing",  #         the speed that a provider allows
    "integrations",  #   around other people's senders
    "testing",  #        shipped: what a third party tests with
    "audit",
    "privacy",
    "simulate",
    "report",
    "web",
    "cli",
]
NOT_A_NAME = {"utils", "base", "core", "helpers", "models"}  # they say where code was put, not what it is about

ZONE_ROOMS = {"zones"}
ZONE_MODULES = ("zoneinfo", "dateutil.tz")

CLOCK_ROOMS = {"clock"}
CLOCK_READS = {
    *(f"time.{name}" for name in ("time", "monotonic", "perf_counter", "localtime", "gmtime", "ctime", "strftime")),
    *(f"time.{name}_ns" for name in ("time", "monotonic", "perf_counter")),
    *(f"datetime.datetime.{name}" for name in ("now", "utcnow", "today")),
    "datetime.date.today",
}

PACKAGE = "fairtouch"
SPEC = importlib.util.find_spec(PACKAGE)
assert SPEC is not None
assert SPEC.submodule_search_locations
ROOT = Path(SPEC.submodule_search_locations[0])  # the installed package, so that a wheel is looked at as well
FILES = sorted(ROOT.rglob("*.py"))

every_file = pytest.mark.parametrize("path", FILES, ids=[path.relative_to(ROOT).as_posix() for path in FILES])


def module_of(path: Path) -> str:
    """The dotted name, packages ending in `.__init__`."""
    return ".".join((PACKAGE, *path.relative_to(ROOT).with_suffix("").parts))


def room_of(module: str) -> str:
    """The room that a module is in, or the package itself for the public face."""
    parts = module.split(".")
    return PACKAGE if parts[1:] in ([], ["__init__"]) else parts[1]


def at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node, without what only a type checker reads: a signature may name what a room below makes."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield from at_run_time(child)


def imports(source: str, module: str) -> Iterator[tuple[str, str]]:
    """Every thing imported at run time, at once or lazily, as (local name, absolute dotted name)."""
    package = module.split(".")[:-1]
    for node in at_run_time(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0], alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield alias.asname or alias.name, f"{origin}.{alias.name}"


def wrong_rooms(source: str, module: str) -> list[str]:
    """What the module imports from rooms that are not above its own."""
    room = room_of(module)
    above = ROOMS if room == PACKAGE else [*ROOMS[: ROOMS.index(room)], room]
    own = [name for _, name in imports(source, module) if name.partition(".")[0] == PACKAGE]
    return [name for name in own if room_of(name) not in above]


def clock_reads(source: str, module: str) -> list[str]:
    """The wall clock's names that the source mentions, called or only passed on."""
    known = dict(imports(source, module))
    found = [name for name in known.values() if name in CLOCK_READS]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            head, _, rest = ast.unparse(node).partition(".")
            found += [name for name in [f"{known.get(head, head)}.{rest}"] if name in CLOCK_READS]
    return found


@every_file
def test_every_module_has_a_room(path: Path) -> None:
    """A module that the list does not know has no place yet."""
    assert room_of(module_of(path)) in {PACKAGE, *ROOMS}, f"add {path.name} to ROOMS"


@every_file
def test_names_say_what_a_module_is_about(path: Path) -> None:
    """No module or package is a drawer for whatever is left over."""
    assert not {part.strip("_") for part in path.relative_to(ROOT).with_suffix("").parts} & NOT_A_NAME


@every_file
def test_imports_come_from_above(path: Path) -> None:
    """A module imports only from its own room and those above it, and never from the public face."""
    assert wrong_rooms(path.read_text(encoding="utf-8"), module_of(path)) == []


@every_file
def test_one_room_asks_time_zones(path: Path) -> None:
    """Only zones.py knows that zones have rules; periods and hours build on it."""
    module = module_of(path)
    names = [name for _, name in imports(path.read_text(encoding="utf-8"), module)]
    zones = [name for name in names if f"{name}.".startswith(tuple(f"{zone}." for zone in ZONE_MODULES))]

    assert zones == [] or room_of(module) in ZONE_ROOMS


@every_file
def test_one_room_reads_the_clock(path: Path) -> None:
    """Time comes from a clock that was handed in; only clock.py knows how to look at the wall."""
    module = module_of(path)

    assert clock_reads(path.read_text(encoding="utf-8"), module) == [] or room_of(module) in CLOCK_ROOMS


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("fairtouch.plan", "from fairtouch.stores.port import Store", ["fairtouch.stores.port.Store"]),
        ("fairtouch.plan", "def f():\n    import fairtouch.governor", ["fairtouch.governor"]),
        ("fairtouch.plan", "from fairtouch import Governor", ["fairtouch.Governor"]),
        ("fairtouch.plan", "from . import governor", ["fairtouch.governor"]),
        ("fairtouch.policy.load", "from ..plan import Plan", ["fairtouch.plan.Plan"]),
        ("fairtouch.policy.__init__", "from .load import load", []),
        ("fairtouch.policy.load", "from .model import Policy\nfrom fairtouch.errors import PolicyError", []),
        ("fairtouch.errors", "if TYPE_CHECKING:\n    from fairtouch.decision import Decision", []),
        ("fairtouch.__init__", "from fairtouch.governor import Governor", []),
    ],
)
def test_a_wrong_import_is_noticed(module: str, source: str, wrong: list[str]) -> None:
    """However an import is written, this file sees where it goes."""
    assert wrong_rooms(source, module) == wrong


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("import time\ntime.time()", ["time.time"]),
        ("from time import monotonic as tick", ["time.monotonic"]),
        ("import datetime as dt\ndt.datetime.now(dt.UTC)", ["datetime.datetime.now"]),
        ("from datetime import datetime\nclock = datetime.utcnow", ["datetime.datetime.utcnow"]),
        ("from datetime import date\ndate.today()", ["datetime.date.today"]),
        ("from datetime import datetime\ndatetime.fromtimestamp(0)\nself.clock.now()", []),
    ],
)
def test_a_look_at_the_wall_is_noticed(source: str, reads: list[str]) -> None:
    """However the clock is read, this file sees it."""
    assert clock_reads(source, "fairtouch.plan") == reads
