"""Django's e-mail backend that first asks, for each recipient of each message, and lets another backend send.

Rule 1: slots are taken for a message just before it is sent, and settled before the next one is looked at. Rule 2:
Django's conventions hold: the number of messages sent is returned, what the sending backend raises is raised on, later
messages are then not sent, and nobody's slot is taken for them. Rule 3: the caller's message is not changed, but for
`message.fairtouch_status`.
"""

import logging
import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, Self

from django.core.mail.backends.base import BaseEmailBackend

from fairtouch.errors import StoreError, StoreUnavailable
from fairtouch.integrations.django.configuration import Configuration, configuration, governor
from fairtouch.integrations.django.delivering import Answer, Inner, inner
from fairtouch.integrations.django.fates import Fate, Recipient, Status, deferred, left_out_as, refused, why
from fairtouch.integrations.django.messages import message_touch, outgoing, recipients
from fairtouch.integrations.recipients import Judged, judge, settle
from fairtouch.touch import Touch

_log: Final = logging.getLogger("fairtouch")
_telling: Final = threading.local()


class EmailBackend(BaseEmailBackend):  # type: ignore[misc]  # Django has no types
    """Governs another backend: FAIRTOUCH["BACKEND"], else Django's SMTP.

    `fairtouch`: what this mailer says otherwise than FAIRTOUCH, for example {"TOUCH": {"topic": "newsletter"}}. All
    other options are the sending backend's. Safe for threads, which take turns. Raises ImproperlyConfigured.
    """

    governs = True

    def __init__(
        self,
        fail_silently: bool = False,  # noqa: FBT001, FBT002 - Django's own convention
        *,
        alias: str | None = None,
        fairtouch: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**({} if alias is None else {"alias": alias}))
        self.alias = alias
        self.fail_silently = fail_silently
        self._overrides = fairtouch
        self._inner = inner(configuration(fairtouch).backend, options, alias)
        self._lock = threading.RLock()

    def open(self) -> Any:
        """Opens the sending backend; what that returns."""
        try:
            return self._inner.backend.open()
        except self._inner.forgiven:
            if not self.fail_silently:
                raise
            return None

    def close(self) -> None:
        """Closes the sending backend."""
        try:
            self._inner.backend.close()
        except self._inner.forgiven:
            if not self.fail_silently:
                raise

    def send_messages(self, email_messages: Iterable[Any]) -> int:
        """Sends each message once, to those of To, Cc and Bcc who may be contacted now; how many messages were sent.

        A message of whom nobody is left is not sent and does not count. `message.fairtouch_status` and the signals
        `deferred` and `refused` say who was left out and why. What the sending backend raises is raised on; with
        `fail_silently`, the next message is tried instead. Then the slots of that message are free again, unless it
        may have gone out (time-outs, lost connections). TouchError, IdConflict, StoreUnavailable and StoreError mean
        that this message was not sent, nor any later one. With `fail_silently` the last two are logged, and no further
        message is sent.
        """
        wanted, sent = configuration(self._overrides), 0
        with self._lock, _Line(self._inner) as line:
            for message in email_messages or ():
                try:
                    sent += self._send(message, line, wanted)
                except (StoreUnavailable, StoreError) as error:
                    if not self.fail_silently:
                        raise
                    _tell_of(error)
                    break
                if line.is_dead:
                    break
        return sent

    def _send(self, message: Any, line: "_Line", wanted: Configuration) -> bool:
        message.fairtouch_status = Status()  # not that of an earlier send
        keeper, known = governor(wanted), recipients(message)
        judged = judge(keeper, known, [_touch(wanted, message, bare) for bare in known.values()])
        allowed = [one for one in judged if one.decision]
        answer, error = Answer(), None
        try:
            _announce(message, [one for one in judged if not one.decision])
            if allowed:
                answer, error = line.send(message, [one.address for one in allowed])
        finally:
            settle(keeper, allowed, sent_to=answer.sent_to, kept=answer.in_doubt)
            message.fairtouch_status = Status(_with_fate(one, answer) for one in judged)
        if error is not None and not (self.fail_silently and isinstance(error, self._inner.forgiven)):
            raise error
        return bool(answer.sent_to or answer.in_doubt) and error is None


class _Line:
    """The sending backend's connection, as Django's own backends treat it: opened once for all messages, by the first
    that goes out, and closed after the last one, unless it was open before.
    """

    def __init__(self, sender: Inner) -> None:
        self._inner = sender
        self._is_open = self._is_ours = self.is_dead = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def send(self, message: Any, addresses: list[str]) -> tuple[Answer, BaseException | None]:
        """What became of a message, and what was raised."""
        handled = sys.exc_info()[1]
        try:
            self._open()
        except Exception as error:  # noqa: BLE001 - the caller raises it on
            self.is_dead = True
            return Answer(), error
        copy = outgoing(message, addresses, keep_headers=self._inner.keeps_headers)
        try:
            return self._inner.send(copy, addresses), None
        except BaseException as error:  # noqa: BLE001 - the same
            answer = self._inner.after(error, handled, addresses)
            if answer.in_doubt:  # the connection is probably lost
                self._close()
            return answer, error
        finally:
            self._inner.tell(message, copy)

    def _open(self) -> None:
        if not self._is_open:
            self._is_ours = bool(self._inner.backend.open())
            self._is_open = True

    def _close(self) -> None:
        """Closes what was opened here. The messages are out, so nothing is raised that would send them again."""
        if self._is_ours:
            self._is_open = self._is_ours = False
            with suppress(*self._inner.forgiven):
                self._inner.backend.close()


def _touch(wanted: Configuration, message: Any, address: str) -> Touch:
    if wanted.to_touch is not None:
        return wanted.to_touch(message, address)
    return message_touch(message, address, customer_of=wanted.customer, **wanted.touch)


def _with_fate(one: Judged, answer: Answer) -> Recipient:
    if not one.decision:
        fate = left_out_as(one.decision)
    elif one.address in answer.sent_to:
        fate = Fate.SENT
    elif one.address in answer.in_doubt:
        fate = Fate.IN_DOUBT
    else:
        fate = Fate.TURNED_AWAY if one.address in answer.turned_away else Fate.UNSENT
    return Recipient(one.address, one.touch, one.decision, fate)


def _announce(message: Any, left_out: list[Judged]) -> None:
    """Logs who is left out, by rules alone, and tells the app."""
    told = [_with_fate(one, Answer()) for one in left_out]
    for signal, fate in ((deferred, Fate.DEFERRED), (refused, Fate.REFUSED)):
        met = tuple(one for one in told if one.fate == fate)
        if met:
            _log.info("%d recipients of a message are %s (%s)", len(met), fate, why(met))
            signal.send(sender=EmailBackend, message=message, recipients=met)


def _tell_of(error: Exception) -> None:
    """Logs what `fail_silently` keeps from the caller; not again for the mail that a log handler makes of it."""
    if getattr(_telling, "is_now", False):
        return
    _telling.is_now = True
    try:
        _log.error("a message was not sent, nor those after it: %s", error)
    finally:
        _telling.is_now = False
