"""Django in the process of the tests: set up once, then every test overrides the settings it is about."""

from collections.abc import Mapping
from typing import Any

import django
from django.conf import settings
from django.core import mail
from django.test import override_settings

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


def governing() -> override_settings:
    """All mail of the project is governed."""
    if HAS_MAILERS:
        return override_settings(MAILERS={"default": {"BACKEND": BACKEND, "OPTIONS": {"host": "localhost"}}})
    return override_settings(EMAIL_BACKEND=BACKEND)
