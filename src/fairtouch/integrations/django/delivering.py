"""How one message goes through the backend that sends, and what that says about each recipient.

Rule 1: the inner backend never fails silently, because its silence would say nothing. Rule 2: whoever is in no
list of an answer has certainly not been written to.
"""

import smtplib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.core.mail.backends.smtp import EmailBackend as SmtpBackend

from fairtouch.integrations.django.configuration import imported
from fairtouch.integrations.recipients import may_have_gone_out


class Answer(NamedTuple):
    """Whom a message was sent to, who may have got it, and whom the mail server or service turned away."""

    sent_to: frozenset[str] = frozenset()
    in_doubt: frozenset[str] = frozenset()
    turned_away: frozenset[str] = frozenset()


class Inner:
    """A backend that sends. `forgiven`: what Django's own backends say nothing of when they fail silently.

    `keeps_headers`: whether To and Cc on the wire are those of the message, whoever is in the envelope.
    """

    forgiven: tuple[type[Exception], ...] = (OSError,)  # smtplib's own errors are of this kind
    keeps_headers = True

    def __init__(self, backend: Any) -> None:
        self.backend: Final = backend

    def send(self, message: Any, addresses: Sequence[str]) -> Answer:
        """Sends a message to its recipients. What the backend raises is raised on: then `after` knows more."""
        count = self.backend.send_messages([message])
        return Answer(sent_to=frozenset(addresses)) if count is None or count > 0 else Answer()

    def after(self, error: BaseException, handled: BaseException | None, addresses: Sequence[str]) -> Answer:
        """The same when the send raised. `handled`: what the caller was handling when it began."""
        return Answer(in_doubt=frozenset(addresses)) if may_have_gone_out(error, handled) else Answer()

    def tell(self, message: Any, sent: Any) -> None:
        """Copies what the backend wrote on the copy that went out to the caller's message."""


class _Overheard:
    """An smtplib connection whose answers about recipients are kept, which Django's backend drops."""

    def __init__(self, connection: smtplib.SMTP) -> None:
        self.connection = connection
        self.was_used = False
        self.refused: frozenset[int] = frozenset()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def sendmail(self, from_addr: str, to_addrs: Sequence[str], *rest: Any, **options: Any) -> Any:
        """Sends, and notes which of the recipients were refused, by their place: Django spells them anew."""
        self.was_used = self.connection.sock is not None  # else smtplib only says that it is not connected
        replies = self.connection.sendmail(from_addr, to_addrs, *rest, **options)
        self.refused = frozenset(place for place, address in enumerate(to_addrs) if address in replies)
        return replies


class _Smtp(Inner):
    """Django's SMTP backend: the mail server's word about each recipient counts."""

    _overheard: _Overheard | None = None

    def send(self, message: Any, addresses: Sequence[str]) -> Answer:
        if self.backend.connection is None:  # it could not be opened, and the backend makes nothing of it
            return Answer()
        overheard = self._overheard = _Overheard(self.backend.connection)
        self.backend.connection = overheard
        try:
            answer = super().send(message, addresses)
        finally:
            if self.backend.connection is overheard:
                self.backend.connection = overheard.connection
        turned_away = frozenset(address for place, address in enumerate(addresses) if place in overheard.refused)
        return Answer(sent_to=answer.sent_to - turned_away, turned_away=turned_away)

    def after(self, error: BaseException, handled: BaseException | None, addresses: Sequence[str]) -> Answer:
        if self._overheard is not None and not self._overheard.was_used:
            return Answer()
        if isinstance(error, smtplib.SMTPRecipientsRefused):
            return Answer(turned_away=frozenset(addresses))
        return super().after(error, handled, addresses)


def backend_class(path: str) -> Any:
    """The class of the backend that sends. Raises ImproperlyConfigured."""
    made = imported("FAIRTOUCH['BACKEND']", path)
    if getattr(made, "governs", False):
        raise ImproperlyConfigured(
            "FAIRTOUCH['BACKEND'] is fairtouch's own backend, which would wrap itself; set it to the backend that "
            "sends, such as 'django.core.mail.backends.smtp.EmailBackend'"
        )
    return made


def inner(path: str, options: Mapping[str, Any], alias: str | None) -> Inner:
    """The backend of a dotted path, with the options of the mailer. Raises ImproperlyConfigured."""
    made = backend_class(path)
    if alias is not None:
        options = {**options, "alias": alias}
    elif path.startswith("django.core.mail.backends.") and _knows_mailers():
        options = {**options, "alias": None}  # else Django 6.1 takes this for an app that makes backends by hand
    backend = made(**options)
    if _is_anymails(backend):
        from fairtouch.integrations.anymail import AnymailInner

        governed: Inner = AnymailInner(backend)
        return governed
    return _Smtp(backend) if _is_djangos_smtp(backend) else Inner(backend)


def _knows_mailers() -> bool:
    from django.core import mail

    return hasattr(mail, "mailers")


def _is_djangos_smtp(backend: Any) -> bool:
    """Also a class of the app's own, unless it sends in another way."""
    kind = type(backend)
    return isinstance(backend, SmtpBackend) and all(
        getattr(kind, name) is getattr(SmtpBackend, name) for name in ("send_messages", "_send")
    )


def _is_anymails(backend: Any) -> bool:
    return any(base.__module__ == "anymail.backends.base" for base in type(backend).__mro__)
