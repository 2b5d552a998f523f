"""Django in the process of the tests: set up once, then every test overrides the settings it is about."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

import django
from django.conf import settings
from django.core import mail
from django.test import override_settings

from fairtouch.testing import FrozenClock

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday
BACKEND = "fairtouch.integrations.django.EmailBackend"
LOCMEM = "django.core.mail.backends.locmem.EmailBackend"
SMTP = "django.core.mail.backends.smtp.EmailBackend"
HAS_MAILERS = hasattr(mail, "mailers")  # Django 6.1


def set_up() -> None:
    """Configures Django, unless it is."""
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["testserver"],
            INSTALLED_APPS=["anymail", "fairtouch.integrations.django"],
            ROOT_URLCONF="tests.django_urls",
            SECRET_KEY="a secret for tests",
            USE_TZ=True,
        )
        django.setup()


def mailer(*, alias: str = "default", **options: Any) -> Any:
    """The governed backend with options, made as this Django makes one."""
    if not HAS_MAILERS:
        return mail.get_connection(BACKEND, **options)
    with override_settings(MAILERS={alias: {"BACKEND": BACKEND, "OPTIONS": options}}):
        return mail.mailers[alias]


def governed(rules: Mapping[str, Any], store: Any = "memory://", **more: Any) -> override_settings:
    """The setting FAIRTOUCH with a policy of these rules."""
    policy = {"name": "shop", "customer": {"timezones": ["UTC"]}, **rules}
    return override_settings(FAIRTOUCH={"POLICY": policy, "STORE": store, **more})


@contextmanager
def settings_at_noon() -> Iterator[Callable[..., None]]:
    """What sets FAIRTOUCH, with a clock that stands at noon, until the end."""
    with ExitStack() as overrides:

        def override(rules: Mapping[str, Any] | None = None, **more: Any) -> None:
            overrides.enter_context(governed(rules or {}, **{"CLOCK": FrozenClock(NOON), **more}))

        yield override


def governing() -> override_settings:
    """All mail of the project is governed."""
    if HAS_MAILERS:
        return override_settings(MAILERS={"default": {"BACKEND": BACKEND, "OPTIONS": {"host": "localhost"}}})
    return override_settings(EMAIL_BACKEND=BACKEND)
