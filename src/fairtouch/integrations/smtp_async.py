"""Around aiosmtplib, or anything with its `send_message` or `sendmail`: each recipient is judged on its own.

Rule 1: the message goes out once, to those allowed, and only its envelope changes. To and Cc stay as they were written,
a Bcc header never goes out, the caller's message is not touched. Rule 2: aiosmtplib's convention holds: what comes back
is the dict of refused recipients and the server's text; an exception only when nobody is left. Rule 3: once the message
is out, nothing is raised that would make the caller send it again, but for the caller's own cancellation. Rule 4: what
may have gone out keeps its slots; settling comes to its end, whoever cancels.
"""

import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from email import policy
from email.message import EmailMessage
from typing import Any, Final, Self

try:
    import aiosmtplib
except ImportError as missing:
    raise ImportError("there is no aiosmtplib to wrap: pip install 'fairtouch[aiosmtplib]'") from missing

from fairtouch.decision import Decision
from fairtouch.finishing import finished
from fairtouch.governor_async import AsyncGovernor
from fairtouch.in_doubt import is_in_doubt
from fairtouch.integrations.envelopes import (
    AnyMessage,
    distinct,
    email_touch,
    header_addresses,
    headers_only,
    listed,
    without_bcc,
)
from fairtouch.integrations.recipients import reply
from fairtouch.integrations.recipients_async import judge, settle
from fairtouch.touch import Touch

Replies = dict[str, aiosmtplib.SMTPResponse]
_SENDS: Final = ("send_message", "sendmail")
_SENDS_UNASKED: Final = {f"{name}_sync" for name in _SENDS}
_NOT_CONNECTED: Final = "Server not connected"
_UTF8: Final = ("SMTPUTF8", "BODY=8BITMIME")


class RefusedResponse(aiosmtplib.SMTPResponse):
    """Why fairtouch left a recipient out, as aiosmtplib says it: (code, message). `decision` has the reasons.

    450: deferred, `decision.next_allowed_at` says until when. 550: refused, waiting alone does not help. 553: no
    address that can be judged; `decision` is None. These are the codes of RFC 5321 section 4.2.3 for reasons of policy;
    the text begins with one of RFC 3463, and names rules, never a person. Pickled, it becomes the plain SMTPResponse.
    """

    decision: Decision | None

    def __new__(cls, decision: Decision | None) -> Self:  # noqa: D102 - the class says it
        refusal = super().__new__(cls, *reply(decision))
        refusal.decision = decision
        return refusal

    def __reduce__(self) -> tuple[Any, ...]:
        return aiosmtplib.SMTPResponse, tuple(self)


class RefusedRecipient(aiosmtplib.SMTPRecipientRefused):
    """The same in the list of SMTPRecipientsRefused, with the `recipient`. Pickled, it becomes the plain
    SMTPRecipientRefused.
    """

    def __init__(self, response: RefusedResponse, recipient: str) -> None:
        super().__init__(response.code, response.message, recipient)
        self.decision = response.decision

    def __reduce__(self) -> tuple[Any, ...]:
        return aiosmtplib.SMTPRecipientRefused, (self.code, self.message, self.recipient)


class AsyncGovernedSMTP:
    """An aiosmtplib.SMTP, or an app's own object with its `send_message` or `sendmail`, that first asks for each
    recipient.

    `to_touch(message, address)` says what touch the message to one recipient is; it is a plain function, and the
    default is `email_touch`. Everything else passes through to the wrapped object: `async with`, `login`, `quit`, and
    also `mail`, `rcpt` and `data`, which nobody judges; the sends that start a loop of their own (`send_message_sync`,
    `sendmail_sync`) do not. Raises TypeError for an object that does not send in coroutine functions.
    """

    def __init__(
        self, smtp: Any, governor: AsyncGovernor, to_touch: Callable[[AnyMessage, str], Touch] = email_touch
    ) -> None:
        if not all(inspect.iscoroutinefunction(getattr(smtp, name)) for name in _SENDS if hasattr(smtp, name)):
            raise TypeError(f"{type(smtp).__name__} does not send in coroutine functions; wrap it by GovernedSMTP")
        self._smtp, self._governor, self._to_touch = smtp, governor, to_touch

    def __getattr__(self, name: str) -> Any:
        if name in _SENDS_UNASKED:
            raise AttributeError(f"{name} would send without asking; await {name.removesuffix('_sync')}")
        return getattr(self._smtp, name)

    async def __aenter__(self) -> Self:
        entered = await self._smtp.__aenter__()
        return self if entered is self._smtp else type(self)(entered, self._governor, self._to_touch)

    async def __aexit__(self, *error: object) -> Any:
        return await self._smtp.__aexit__(*error)

    async def send_message(
        self,
        message: AnyMessage,
        /,
        *,
        sender: str | None = None,
        recipients: str | Iterable[str] | None = None,
        **options: Any,
    ) -> tuple[Replies, str]:
        """Sends to those of To, Cc and Bcc (Resent-*, when it is resent), or of `recipients`, who may be contacted now.

        `options` are aiosmtplib's own: `mail_options`, `rcpt_options`, `timeout`. Returns who was left out, by
        fairtouch (`RefusedResponse`) or by the server, and the server's text; a contact point that is listed twice
        counts once, under its first spelling. Raises aiosmtplib.SMTPRecipientsRefused when nobody is left, with a
        `RefusedRecipient` for each whom fairtouch left out, and ValueError when there is nobody to begin with. What the
        wrapped object raises is raised on; then the slots are free again, unless the message may have gone out
        (time-outs, connections that were lost on the way, cancellation). TouchError, IdConflict, StoreUnavailable and
        StoreError mean that nothing was sent. When the store fails after the send, that is logged and not raised: the
        slots stay taken, and are in doubt when their lease ends.
        """
        send = self._smtp.send_message
        addresses = _addressed(message) if recipients is None else listed(recipients)
        if not addresses:
            raise ValueError("the message names no recipients in To, Cc and Bcc, and none were given; nothing was sent")

        async def deliver(allowed: list[str]) -> Any:
            outgoing = without_bcc(message)
            if not "".join(addresses).isascii():
                author = _author(message) if sender is None else sender
                if author is not None and await self._needs_utf8(outgoing, [author, *allowed]):
                    text = outgoing.as_bytes(policy=policy.SMTPUTF8)
                    return await self._smtp.sendmail(author, allowed, text, **_with_utf8(options))
            return await send(outgoing, sender=sender, recipients=allowed, **options)

        return await self._send(message, addresses, deliver)

    async def sendmail(
        self, sender: str, recipients: str | Iterable[str], message: str | bytes, /, **options: Any
    ) -> tuple[Replies, str]:
        """Sends to those of `recipients` who may be contacted now; `message` goes out as it is, with every header in
        it.

        Returns and raises what `send_message` does; without recipients, SMTPRecipientsRefused with an empty list.
        """
        send = self._smtp.sendmail
        addresses = listed(recipients)
        return await self._send(
            headers_only(message), addresses, lambda allowed: send(sender, allowed, message, **options)
        )

    async def _send(
        self, message: AnyMessage, addresses: Iterable[str], deliver: Callable[[list[str]], Awaitable[Any]]
    ) -> tuple[Replies, str]:
        known, unusable = distinct(addresses)
        judged = await judge(self._governor, known, [self._to_touch(message, bare) for bare in known.values()])
        refused: Replies = {address: RefusedResponse(None) for address in unusable}
        refused |= {one.address: RefusedResponse(one.decision) for one in judged if not one.decision}
        allowed = [one for one in judged if one.decision]
        if not allowed:
            raise _nobody_left(refused)
        handled = sys.exc_info()[1]
        try:
            answer = await deliver([one.address for one in allowed])
        except BaseException as error:
            if not _may_have_gone_out(error, handled):
                await finished(settle, self._governor, allowed, sent_to=())
            if refused and isinstance(error, aiosmtplib.SMTPRecipientsRefused):
                raise _nobody_left(refused, error.recipients) from error
            raise
        replies, text = _understood(answer)
        refused |= replies
        sent_to = {one.address for one in allowed} - refused.keys()
        await finished(settle, self._governor, allowed, sent_to=sent_to)
        if not sent_to:
            raise _nobody_left(refused)
        return refused, text

    async def _needs_utf8(self, outgoing: AnyMessage, envelope: Iterable[str]) -> bool:
        """Whether only SMTPUTF8 (RFC 6531) can name someone left out, in To or Cc, and the server offers it.

        aiosmtplib asks for it when the envelope needs it, and writes the headers of an EmailMessage accordingly.
        """
        if not "".join(envelope).isascii() or not isinstance(outgoing, EmailMessage):
            return False
        if not hasattr(self._smtp, "supports_extension"):
            return False
        if self._smtp.is_ehlo_or_helo_needed:
            with suppress(aiosmtplib.SMTPHeloError):  # `send_message` tries what came before ESMTP, or says so
                await self._smtp.ehlo()
        return bool(self._smtp.supports_extension("smtputf8"))


def _addressed(message: AnyMessage) -> list[str]:
    return header_addresses(message, "To", "Cc", "Bcc", repeated=True)


def _author(message: AnyMessage) -> str | None:
    """Who aiosmtplib would say sent it: the first address of Sender, else of From."""
    return next(filter(None, header_addresses(message, "Sender") or header_addresses(message, "From")), None)


def _with_utf8(options: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's options, and what tells the server to expect headers beyond ASCII."""
    asked = list(options.get("mail_options") or ())
    named = {option.upper() for option in asked}
    return {**options, "mail_options": [*asked, *(option for option in _UTF8 if option not in named)]}


def _understood(answer: Any) -> tuple[Mapping[str, Any], str]:
    """Who was refused, and the server's text; an app's own object may answer anything."""
    replies, text = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, "")
    return replies if isinstance(replies, Mapping) else {}, text if isinstance(text, str) else ""


def _nobody_left(
    refused: Mapping[str, Any], others: Iterable[aiosmtplib.SMTPRecipientRefused] = ()
) -> aiosmtplib.SMTPRecipientsRefused:
    """Everybody was refused: those by fairtouch, and `others` by the server."""
    return aiosmtplib.SMTPRecipientsRefused([*(_refusal(*one) for one in refused.items()), *others])


def _refusal(address: str, response: Any) -> aiosmtplib.SMTPRecipientRefused:
    if isinstance(response, RefusedResponse):
        return RefusedRecipient(response, address)
    code, text = response
    return aiosmtplib.SMTPRecipientRefused(code, text, address)


def _may_have_gone_out(error: BaseException, handled: BaseException | None) -> bool:
    """Whether a send by aiosmtplib that raised may have reached somebody.

    Of the replies that aiosmtplib did not expect, only 4xx and 5xx say: not sent (RFC 5321 section 4.2.1). Nor is
    anything sent when there is no connection left to write the next command to; of one that is lost while an answer is
    awaited aiosmtplib says other words.
    """
    if isinstance(error, aiosmtplib.SMTPDataError) and not 400 <= error.code < 600:
        return True
    if isinstance(error, aiosmtplib.SMTPServerDisconnected) and error.message == _NOT_CONNECTED:
        return error.__context__ is not handled  # an app's own sender may have sent before
    return type(error) is aiosmtplib.SMTPResponseException or is_in_doubt(error, handled)  # the former: unreadable
