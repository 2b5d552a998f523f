"""Importing the package brings in nothing that an app may not have or may not want yet."""

import subprocess
import sys

# Also when it is not installed, or when the import would be forgiven: an attempt is what counts.
WATCHED_IMPORT = """
import sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in sys.argv[1:]:
            print(name)

sys.meta_path.insert(0, Watch())
import fairtouch
"""
GUESTS = [
    *("redis", "hiredis", "limits"),
    *("email_validator", "phonenumbers", "holidays", "idna"),
    *("django", "anymail", "celery", "starlette", "jinja2", "itsdangerous", "opentelemetry"),
    *("typer", "rich"),
    *("aiosmtplib", "aiosmtpd", "hypothesis", "pytest"),
]


def attempts(program: str) -> list[str]:
    """The guests that a new interpreter tries to import, found or not."""
    command = [sys.executable, "-I", "-c", program, *GUESTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_bare_import_is_light() -> None:
    """`import fairtouch` imports no store's client, no rate limiter and no extra."""
    assert attempts(WATCHED_IMPORT) == []


def test_an_attempt_is_noticed() -> None:
    """An import of a guest that is not even installed would be seen."""
    forgiven = "try:\n    import celery\nexcept ImportError:\n    pass\n"

    assert "celery" in attempts(WATCHED_IMPORT + forgiven)


ASKED_FOR = """
import sys, pydantic
before = "asyncio" in sys.modules
import fairtouch
assert before == ("asyncio" in sys.modules)
from fairtouch import AsyncGovernor
assert "asyncio" in sys.modules
try:
    fairtouch.AsynchronousGovernor
except AttributeError as error:
    print(error)
"""


def test_asyncio_is_imported_when_it_is_asked_for() -> None:
    """Programs without an event loop do not wait for one; a misspelt name is an error all the same."""
    done = subprocess.run([sys.executable, "-I", "-c", ASKED_FOR], capture_output=True, text=True, check=True)
    assert "module 'fairtouch' has no attribute 'AsynchronousGovernor'" == done.stdout.strip()
