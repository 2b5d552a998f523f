"""Two thousand values that are no time zone, and that upset whoever opens them as a file; always the same ones.

A list by hand, the files that lie beside the zones, and real names that a seeded generator damages.
"""

import zoneinfo
from collections.abc import Callable
from datetime import UTC, timedelta
from pathlib import Path
from random import Random

NUMBER = 2_000
SEED = 22
NO_ZONES = {"localtime", "posixrules", "Factory"}  # files like the zones', of no place: this machine's, a default, none

PATHS = r"""
    . .. / // ~ ~root ./UTC UTC/. UTC/.. /UTC //UTC UTC/ Europe Europe/ US/ Europe/../UTC Europe/./Berlin ../UTC
    /usr/share/zoneinfo/UTC file:///etc/localtime /etc/passwd /etc/localtime /dev/zero /dev/stdin /proc/self/environ
    C:\Windows \\host\share Europe\Berlin CON NUL COM1 AUX.txt localtime posixrules Factory posix/UTC right/UTC posix
    zone.tab zone1970.tab zonenow.tab iso3166.tab tzdata.zi leapseconds leap-seconds.list zones zoneinfo tzdata
    __init__.py __pycache__ Europe/__init__.py America/Indiana/__init__.py
"""
WORDS = """
    +01:00 -05:00 UTC+1 UTC-25 GMT+99 GMT+1 Z z CEST EDT EST5EDT4 :UTC <+03>-3 CET-1CEST,M3.5.0,M10.5.0/3 UTC|UTC
    None null nil NaN true 0 1 -1 1e9 undefined unknown %s%s%n %00 %2e%2e%2f {0.__class__} ${jndi:ldap://x} $(id) `id`
    =1+1 <script> [] * ? Europe/* Europe/Berlin;UTC Europe/Berlin,UTC '; Mars/Olympus Europe/Berln
"""
BY_HAND: list[object] = [
    *(*PATHS.split(), *WORDS.split()),
    *("", " ", "\t", "\n", "\r\n", "\x00", "\x7f", "\xa0", "\u2003", "\u200b", "\ufeff", "\u202e", "\U0010ffff"),
    *("\ud800", "\udfff", "Europe/\udc80Berlin", "\ud83d\ude00", "\u0415urope/Berlin", "\uff35\uff34\uff23"),
    *("A" * 64, "A" * 65, "A" * 255, "A" * 4_096, "A" * 1_000_000, "/" * 100_000, "../" * 30_000, "\x00" * 70_000),
    *("\U0001f552" * 50_000, "Europe/" * 5_000, "UTC" + " " * 100_000, "\ud800" * 50_000, "e\u0301" * 40),
    *(b"", b"UTC", b"\x00\xff", bytearray(b"UTC"), 0, 1, -1, 2**70, 1.5, float("nan"), float("inf"), 1j, True, False),
    *([], ["UTC"], (), ("UTC",), {}, {"UTC": 1}, set(), object(), Ellipsis, str, Path("UTC"), zoneinfo.ZoneInfo("UTC")),
    *(UTC, timedelta(hours=1)),
]

LOOKALIKES = {"a": "\u0430", "e": "\u0435", "o": "\u043e", "/": "\u2044", "_": "\u2017", "i": "\u0131", "E": "\u0415"}
INSERTS = ["\x00", " ", "\n", "\u200b", "\u202e", "\ud83d", "/", "//", "/../", "/./", "\\", "%2f", ";", "'", "\x1b[31m"]
WRAPS = ["../{}", "../../{}", "/{}", "./{}", "{}/", "{}/..", "{}.py", "{}\x00.tab", " {}", "{} ", "/etc/zoneinfo/{}"]


def _insert(random: Random, name: str) -> str:
    position = random.randrange(len(name) + 1)
    return name[:position] + random.choice(INSERTS) + name[position:]


def _drop(random: Random, name: str) -> str:
    position = random.randrange(len(name))
    return name[:position] + name[position + 1 :]


def _wrap(random: Random, name: str) -> str:
    return random.choice(WRAPS).format(name)


def _recase(random: Random, name: str) -> str:
    return "".join(random.choice((letter.lower(), letter.upper())) for letter in name)


def _look_alike(random: Random, name: str) -> str:
    return "".join(LOOKALIKES.get(letter, letter) if random.random() < 0.5 else letter for letter in name)


def _widen(random: Random, name: str) -> str:
    return "".join(
        chr(ord(letter) + 0xFEE0) if letter.isascii() and random.random() < 0.3 else letter for letter in name
    )


def _lengthen(random: Random, name: str) -> str:
    return name * random.choice((2, 3, 10, 1_000))


def _swap(random: Random, name: str) -> str:
    return "/".join(random.sample(parts, len(parts))) if len(parts := name.split("/")) > 1 else name[::-1]


def _noise(random: Random, name: str) -> str:
    return "".join(chr(random.choice((random.randrange(128), random.randrange(0x110000)))) for _ in name)


DAMAGES: tuple[Callable[[Random, str], str], ...] = (
    *(_insert, _drop, _wrap, _recase, _look_alike),
    *(_widen, _lengthen, _swap, _noise),
)


def beside_the_zones() -> list[str]:
    """The files and folders of the zones that are no zones."""
    zones = zoneinfo.available_timezones()
    roots = [Path(root) for root in zoneinfo.TZPATH]
    return sorted({str(path.relative_to(root)) for root in roots for path in root.glob("*")} - zones)


def hostile_zones() -> list[object]:
    """All of them, no two alike."""
    random = Random(SEED)
    real = sorted(zoneinfo.available_timezones() - NO_ZONES)
    found: dict[tuple[type, str], object] = {(type(value), repr(value)): value for value in BY_HAND}
    found |= {(str, repr(value)): value for value in beside_the_zones()}
    while len(found) < NUMBER:
        value = random.choice(real)
        for _ in range(random.choice((1, 1, 2, 3))):
            value = random.choice(DAMAGES)(random, value)
        if value not in real:
            found[str, repr(value)] = value
    return list(found.values())[:NUMBER]
