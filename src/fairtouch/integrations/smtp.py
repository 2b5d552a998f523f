"""Around smtplib, or anything with its `send_message` or `sendmail`: each recipient is judged on its own.

Rule 1: the message goes out once, to those allowed, and only its envelope changes. To and Cc stay as they were written,
a Bcc header never goes out, the caller's message is not touched. Rule 2: smtplib's convention holds: what comes back is
the dict of refused recipients; an exception only when nobody is left. Rule 3: once the message is out, nothing is
raised that would make the caller send it again. Rule 4: what may have gone out keeps its slots.
"""

import hashlib
import inspect
import logging
import smtplib
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from email import policy
from email.parser import BytesHeaderParser, HeaderParser
from typing import Any, Final, Self

from fairtouch.addresses import normalize
from fairtouch.decision import Decision
from fairtouch.governor import Governor
from fairtouch.in_doubt import is_in_doubt
from fairtouch.integrations.envelopes import AnyMessage, distinct, header_addresses, listed, without_bcc
from fairtouch.records import Outcome
from fairtouch.touch import Touch

Replies = dict[str, tuple[int, bytes]]
_log: Final = logging.getLogger("fairtouch")


class RefusedRecipient(tuple[int, bytes]):  # noqa: SLOT001 - Python gives a tuple with fields of its own no slots
    """Why fairtouch left a recipient out, as smtplib says it: (reply code, text). `decision` has the reasons.

    450: deferred, `decision.next_allowed_at` says until when. 550: refused, waiting alone does not help. 553: no
    address that can be judged; `decision` is None. These are the codes of RFC 5321 section 4.2.3 for reasons of policy;
    the text begins with one of RFC 3463, and names rules, never a person. Pickled, it becomes the plain tuple.
    """

    decision: Decision | None

    def __new__(cls, decision: Decision | None) -> Self:  # noqa: D102 - the class says it
        refusal = super().__new__(cls, _reply(decision))
        refusal.decision = decision
        return refusal

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (tuple(self),)


def _reply(decision: Decision | None) -> tuple[int, bytes]:
    if decision is None:
        return 553, b"5.1.3 not an address"
    why = ", ".join(f"{reason.code} ({reason.rule})" for reason in decision.reasons)
    if decision.outcome is Outcome.DEFERRED and decision.next_allowed_at is not None:
        return 450, f"4.7.1 deferred until {decision.next_allowed_at.isoformat()}: {why}".encode()
    return 550, f"5.7.1 refused: {why}".encode()


def email_touch(message: AnyMessage, address: str, **fields: Any) -> Touch:
    """The touch that a message to one address is; `fields` add to what follows from the message, or replace it.

    The customer is the normalised address; an app that keeps consent under ids of its own passes `customer=`, or a
    `to_touch` that looks it up, else its opt-outs are not found. The id is a digest of Message-ID (RFC 5322 section
    3.6.4) and address: the same message sent again reaches nobody twice, and one customer may have two addresses.
    Without a Message-ID every send is another touch. What the message is about stands in no header:
    `functools.partial(email_touch, topic="newsletter")`, else it is marketing. Raises TouchError.
    """
    normal = normalize(address, "email")
    message_id = "".join(str(message["Message-ID"] or "").split())
    known = {"customer": normal, "channel": "email", "address": normal}
    if message_id:
        known["id"] = hashlib.sha256(f"{message_id}\0{normal}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return Touch(**(known | fields))


@dataclass(frozen=True, slots=True, repr=False)
class _Judged:
    address: str
    touch: Touch
    decision: Decision


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
            outgoing = without_bcc(msg)
            senders = header_addresses(msg, "Sender", "From") if from_addr is None else [from_addr]
            options = (*mail_options, *self._utf8_options(outgoing, addresses, [*senders, *allowed]))
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
        return self._send(_headers(msg), listed(to_addrs), lambda allowed: send(from_addr, allowed, msg, *options))

    def _send(self, message: AnyMessage, addresses: Iterable[str], deliver: Callable[[list[str]], Any]) -> Replies:
        known, unusable = distinct(addresses)
        judged = self._judge(known, [self._to_touch(message, bare) for bare in known.values()])
        refused: Replies = {address: RefusedRecipient(None) for address in unusable}
        refused |= {one.address: RefusedRecipient(one.decision) for one in judged if not one.decision}
        allowed = [one for one in judged if one.decision]
        if not allowed:
            raise smtplib.SMTPRecipientsRefused(refused)
        handled = sys.exc_info()[1]
        try:
            reply = deliver([one.address for one in allowed])
        except BaseException as error:
            if not _may_have_gone_out(error, handled):
                self._settle(allowed, sent_to=())
            if refused and isinstance(error, smtplib.SMTPRecipientsRefused):
                raise smtplib.SMTPRecipientsRefused(refused | error.recipients) from error
            raise
        refused |= reply if isinstance(reply, Mapping) else {}
        sent_to = {one.address for one in allowed} - refused.keys()
        self._settle(allowed, sent_to=sent_to)
        if not sent_to:
            raise smtplib.SMTPRecipientsRefused(refused)
        return refused

    def _judge(self, addresses: Iterable[str], touches: Sequence[Touch]) -> list[_Judged]:
        """Reserves for every recipient, or for nobody when it raises."""
        judged: list[_Judged] = []
        try:
            decisions = self._governor.reserve_many(touches)
            for address, touch, decision in zip(addresses, touches, decisions, strict=True):
                judged.append(_Judged(address, touch, decision))
        except BaseException:
            self._settle([one for one in judged if one.decision], sent_to=())
            raise
        return judged

    def _settle(self, allowed: Iterable[_Judged], *, sent_to: Collection[str]) -> None:
        """Confirms or releases every slot; one that cannot be settled does not keep the others from it."""
        failures: list[str] = []
        for one in allowed:
            try:
                self._settle_one(one, is_sent=one.address in sent_to)
            except Exception as error:  # noqa: BLE001 - the others wait, and raising would send again
                failures.append(type(error).__name__)
        if failures:
            text = "%d touches could not be settled (%s); their slots stay taken, in doubt from the end of their lease"
            _log.error(text, len(failures), ", ".join(sorted(set(failures))))

    def _settle_one(self, one: _Judged, *, is_sent: bool) -> None:
        reservation = one.decision.reservation
        if reservation is None:  # let out unverified, when the store did not answer; a send is a fact all the same
            if is_sent:
                self._governor.record(one.touch, one.decision.at)
        elif is_sent:
            self._governor.confirm(reservation)
        else:
            self._governor.release(reservation)

    def _utf8_options(self, outgoing: Any, addresses: Iterable[str], envelope: Iterable[str]) -> tuple[str, ...]:
        """What smtplib adds when the envelope needs SMTPUTF8 (RFC 6531), for To and Cc that name someone left out."""
        if not "".join(envelope).isascii() or "".join(addresses).isascii() or not hasattr(self._smtp, "has_extn"):
            return ()
        self._smtp.ehlo_or_helo_if_needed()
        if not self._smtp.has_extn("smtputf8") or not hasattr(outgoing.policy, "utf8"):
            return ()
        outgoing.policy = outgoing.policy.clone(utf8=True)
        return ("SMTPUTF8", "BODY=8BITMIME")


def _headers(text: bytes | str) -> AnyMessage:
    if isinstance(text, str):
        return HeaderParser(policy=policy.default).parsestr(text)
    return BytesHeaderParser(policy=policy.default).parsebytes(text)


def _given(mail_options: Sequence[str], rcpt_options: Sequence[str]) -> tuple[Sequence[str], ...]:
    """Options only when there are any: an app's own object may know none."""
    return (mail_options, rcpt_options) if mail_options or rcpt_options else ()


def _may_have_gone_out(error: BaseException, handled: BaseException | None) -> bool:
    """Of the replies that smtplib did not expect, only 4xx and 5xx say: not sent (RFC 5321 section 4.2.1)."""
    if isinstance(error, smtplib.SMTPDataError) and not 400 <= error.smtp_code < 600:
        return True
    return type(error) is smtplib.SMTPResponseException or is_in_doubt(error, handled)  # the former: unreadable
