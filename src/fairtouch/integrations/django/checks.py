"""What `manage.py check` finds before the first message does: a missing or invalid policy, and, with `--deploy`, a
store that does not answer or that may lose opt-outs.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Final

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from fairtouch.errors import FairtouchError
from fairtouch.integrations.django.configuration import Configuration, configuration
from fairtouch.integrations.django.delivering import backend_class
from fairtouch.integrations.envelopes import touch_to

_log: Final = logging.getLogger("fairtouch")


def register() -> None:
    """Both, for Django to run."""
    checks.register(check_settings, "fairtouch")
    checks.register(check_store, "fairtouch", deploy=True)


def check_settings(app_configs: Any = None, **_: Any) -> list[Any]:  # noqa: ARG001 - Django's signature
    """Whether FAIRTOUCH can be used, and is."""
    found: list[Any] = []
    governing = list(_governing())
    for overrides in governing or [None]:
        try:
            wanted = configuration(overrides)
            wanted.read_policy().kind(touch_to("somebody@example.org", "", **wanted.touch))
            backend_class(wanted.backend)
        except (ImproperlyConfigured, FairtouchError, OSError) as error:
            found.append(checks.Error(str(error), id="fairtouch.E001"))
            continue
        if wanted.store is None:
            found.append(checks.Error("FAIRTOUCH has no STORE", hint=_STORE, id="fairtouch.E002"))
        if overrides is not None and not wanted.touch and wanted.to_touch is None:
            found.append(checks.Warning(_ALL_MARKETING, hint=_MARK, id="fairtouch.W003"))
    if not governing:
        found.append(
            checks.Warning("no mailer asks fairtouch, so mail is not governed", hint=_USE, id="fairtouch.W004")
        )
    return _each_once(found)


def check_store(app_configs: Any = None, **_: Any) -> list[Any]:  # noqa: ARG001 - Django's signature
    """Whether the store answers, and what it warns of: opt-outs that a server may evict, say."""
    found: list[Any] = []
    for overrides in list(_governing()) or [None]:
        try:
            wanted = configuration(overrides)
            wanted.read_policy()
        except (ImproperlyConfigured, FairtouchError, OSError):
            continue  # the other check says it
        if wanted.store is not None:
            found += _look_at(wanted)
    return _each_once(found)


def _look_at(wanted: Configuration) -> Iterator[Any]:
    heard = _Heard()
    _log.addHandler(heard)
    try:
        wanted.new_governor().close()
    except FairtouchError as error:
        yield checks.Error(f"FAIRTOUCH['STORE']: {error}", id="fairtouch.E005")
    finally:
        _log.removeHandler(heard)
    for text in heard.texts:
        yield checks.Warning(f"FAIRTOUCH['STORE']: {text}", id="fairtouch.W006")
    if str(wanted.store).startswith("memory:"):
        yield checks.Warning(
            "FAIRTOUCH['STORE'] is the memory of each process: caps and opt-outs are not shared, and end with it",
            hint=_STORE,
            id="fairtouch.W007",
        )


class _Heard(logging.Handler):
    """What a store warns of when it is opened."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the text."""
        self.texts.append(record.getMessage())


def _governing() -> Iterator[Mapping[str, Any] | None]:
    """What each mailer that asks fairtouch says otherwise than FAIRTOUCH."""
    mailers = getattr(settings, "MAILERS", None)
    if mailers is None:
        with warnings.catch_warnings(action="ignore"):  # of Django 6.1, which would rather have MAILERS
            mailers = {"default": {"BACKEND": settings.EMAIL_BACKEND}}
    for said in mailers.values():
        try:
            governs = getattr(import_string(said.get("BACKEND", "")), "governs", False)
        except ImportError:
            continue  # Django says it
        if governs:
            yield said.get("OPTIONS", {}).get("fairtouch", {})


def _each_once(found: list[Any]) -> list[Any]:
    return [each for place, each in enumerate(found) if each not in found[:place]]


_STORE: Final = "Set it to a URL such as 'redis://localhost:6379/0', or 'sqlite:////var/lib/shop/touches.db'."
_ALL_MARKETING: Final = "a message that does not say otherwise is judged as marketing, also the reset of a password"
_MARK: Final = (
    "Set FAIRTOUCH['TOUCH'] = {'category': 'transactional'} and let campaigns say what they are, or TO_TOUCH."
)
_USE: Final = (
    "Set BACKEND of a mailer (EMAIL_BACKEND before Django 6.1) to 'fairtouch.integrations.django.EmailBackend'."
)
