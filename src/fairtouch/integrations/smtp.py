"""Around smtplib, or anything with its `send_message` or `sendmail`: each recipient is judged on its own.

Rule 1: the message goes out once, to those allowed, and only its envelope changes. To and Cc stay as they were written,
a Bcc header never goes out, the caller's message is not touched. Rule 2: smtplib's convention holds: what comes back is
the dict of refused recipients; an exception only when nobody is left. Rule 3: once the message is out, nothing is
raised that would make the caller send it again. Rule 4: what may have gone out keeps its slots.
"""

import inspect
import smtplib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from fairtouch.decision import Decision
from fairtouch.governor import Governor
from fairtouch.integrations.envelopes import (
    AnyMessage,
    distinct,
    email_touch,
    header_addresses,
    headers_only,
    listed,
    without_bcc,
)
from fairtouch.integrations.recipients import judge, may_have_gone_out, reply, settle
from fairtouch.touch import Touch

Replies = dict[str, tuple[int, bytes]]


class RefusedRecipient(tuple[int, bytes]):  # noqa: SLOT001 - Python gives a tuple with fields of its own no slots
    """Why fairtouch left a recipient out, as smtplib says it: (reply code, text). `decision` has the reasons.

    450: deferred, `decision.next_allowed_at` says until when. 550: refused, waiting alone does not help. 553: no
    address that can be judged; `decision` is None. These are the codes of RFC 5321 section 4.2.3 for reasons of policy;
    the text begins with one of RFC 3463, and names rules, never a person. Pickled, it becomes the plain tuple.
    """

    decision: Decision | None

    def __new__(cls, decision: Decision | None) -> Self:  # noqa: D102 - the class says it
        code, text = reply(decision)
        refusal = super().__new__(cls, (code, text.encode()))
        refusal.decision = decision
        return refusal

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (tuple(self),)


class GovernedSMTP:
    """An smtplib.SMTP, or an app's own object with `send_message` or `sendmail`, that first asks for each recipient.

    `to_touch(message, address)` says what touch the message to one recipient is; the default is `email_touch`.
    Everything else passes through to the wrapped object: `with`, `login`, `quit`, and also `mail`, `rcpt` and `data`,
    which nobody judges. A connection that went stale looks like one that was lost while sending, which keeps the slots:
    ask with `noop` before, or connect anew. Raises TypeError for an object that sends in coroutines.
    """

    def __init__(
        self, smtp: Any, governor: Governor, to_touch: Callable[[AnyMessage, str], Touch] = email_touch
    ) -> None:
        if any(inspect.iscoroutinefunction(getattr(smtp, name, None)) for name in ("send_message", "sendmail")):
            raise TypeError(f"{type(smtp).__name__} sends in coroutines, which nothing here would await")
        self._smtp, self._governor, self._to_touch = smtp, governor, to_touch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._smtp, name)

    def __enter__(self) -> Self:
        entered = self._smtp.__enter__()
        return self if entered is self._smtp else type(self)(entered, self._governor, self._to_touch)

    def __exit__(self, *error: object) -> Any:
        return self._smtp.__exit__(*error)

    def send_message(
        self,
        msg: AnyMessage,
        from_addr: str | None = None,
        to_addrs: str | Iterable[str] | None = None,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> Replies:
        """Sends to those of To, Cc and Bcc (Resent-*, when it is resent), or of `to_addrs`, who may be contacted now.

        Returns who was left out, by fairtouch (`RefusedRecipient`) or by the server; a contact point that is listed
        twice counts once, under its first spelling. Raises smtplib.SMTPRecipientsRefused with that dict when nobody is
        left. What the wrapped object raises is raised on; then the slots are free again, unless the message may have
        gone out (time-outs, lost connections, cancellation). TouchError, IdConflict, StoreUnavailable and StoreError
        mean that nothing was sent. When the store fails after the send, that is logged and not raised: the slots stay
        taken, and are in doubt when their lease ends.
        """
        send = self._smtp.send_message
        addresses = header_addresses(msg, "To", "Cc", "Bcc") if to_addrs is None else listed(to_addrs)

        def deliver(allowed: list[str]) -> Any:
            outgoing, options = without_bcc(msg), mail_options
            if not "".join(addresses).isascii():
                senders = header_addresses(msg, "Sender", "From") if from_addr is None else [from_addr]
                options = (*mail_options, *self._utf8_options(outgoing, [*senders, *allowed]))
            return send(outgoing, from_addr, allowed, *_given(options, rcpt_options))

        return self._send(msg, addresses, deliver)

    def sendmail(
        self,
        from_addr: str,
        to_addrs: str | Iterable[str],
        msg: bytes | str,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> Replies:
        """Sends to those of `to_addrs` who may be contacted now; `msg` goes out as it is, with every header in it.

        Returns and raises what `send_message` does.
        """
        send = self._smtp.sendmail
        options = _given(mail_options, rcpt_options)
        return self._send(headers_only(msg), listed(to_addrs), lambda allowed: send(from_addr, allowed, msg, *options))

    def _send(self, message: AnyMessage, addresses: Iterable[str], deliver: Callable[[list[str]], Any]) -> Replies:
        known, unusable = distinct(addresses)
        judged = judge(self._governor, known, [self._to_touch(message, bare) for bare in known.values()])
        refused: Replies = {address: RefusedRecipient(None) for address in unusable}
        refused |= {one.address: RefusedRecipient(one.decision) for one in judged if not one.decision}
        allowed = [one for one in judged if one.decision]
        if not allowed:
            raise smtplib.SMTPRecipientsRefused(refused)
        handled = sys.exc_info()[1]
        try:
            reply = deliver([one.address for one in allowed])
        except BaseException as error:
            if not may_have_gone_out(error, handled):
                settle(self._governor, allowed, sent_to=())
            if refused and isinstance(error, smtplib.SMTPRecipientsRefused):
                raise smtplib.SMTPRecipientsRefused(refused | error.recipients) from error
            raise
        refused |= reply if isinstance(reply, Mapping) else {}
        sent_to = {one.address for one in allowed} - refused.keys()
        settle(self._governor, allowed, sent_to=sent_to)
        if not sent_to:
            raise smtplib.SMTPRecipientsRefused(refused)
        return refused

    def _utf8_options(self, outgoing: Any, envelope: Iterable[str]) -> tuple[str, ...]:
        """What smtplib adds when the envelope needs SMTPUTF8 (RFC 6531), for To and Cc that name someone left out."""
        if not "".join(envelope).isascii() or not hasattr(self._smtp, "has_extn"):
            return ()
        self._smtp.ehlo_or_helo_if_needed()
        if not self._smtp.has_extn("smtputf8") or not hasattr(outgoing.policy, "utf8"):
            return ()
        outgoing.policy = outgoing.policy.clone(utf8=True)
        return ("SMTPUTF8", "BODY=8BITMIME")


def _given(mail_options: Sequence[str], rcpt_options: Sequence[str]) -> tuple[Sequence[str], ...]:
    """Options only when there are any: an app's own object may know none."""
    return (mail_options, rcpt_options) if mail_options or rcpt_options else ()
