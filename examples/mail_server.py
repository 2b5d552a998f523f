"""A real SMTP server (aiosmtpd) on a free port of this machine. It keeps what it accepts; nothing leaves the host."""

# ruff: noqa: ARG002, N802 - aiosmtpd calls its hooks by these names, with these arguments

import asyncio
import socket
import threading
from collections.abc import Collection
from email import message_from_bytes, policy
from email.message import EmailMessage
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from aiosmtpd.smtp import SMTP, Envelope, Session


class Mail(NamedTuple):
    """One message as it came over the wire."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    options: tuple[str, ...]

    @property
    def message(self) -> EmailMessage:
        """The message, parsed."""
        return message_from_bytes(self.content, policy=policy.default)


class MailServer:
    """Runs in a thread of its own: `with MailServer() as server: smtplib.SMTP(server.host, server.port)`.

    `gone`: addresses that have no mailbox here. `mails`: what was accepted, in order.
    """

    host: Final = "127.0.0.1"
    conversation: type[SMTP] = SMTP

    def __init__(self, *, gone: Collection[str] = ()) -> None:
        self.gone = frozenset(gone)
        self.mails: list[Mail] = []
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        """Accepts a recipient who has a mailbox."""
        if address in self.gone:
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Accepts the message."""
        to, options = tuple(envelope.rcpt_tos), tuple(envelope.mail_options)
        self.mails.append(Mail(envelope.mail_from or "", to, bytes(envelope.content or b""), options))
        return "250 OK"

    def _converse(self) -> SMTP:
        return self.conversation(self, hostname="mail.example", enable_SMTPUTF8=True, loop=self._loop)

    async def _serve(self) -> None:
        server = await self._loop.create_server(self._converse, sock=self._socket)
        await self._stop.wait()
        server.close()
        open_ones = asyncio.all_tasks() - {asyncio.current_task()}
        for conversation in open_ones:
            conversation.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)
        await asyncio.sleep(0)  # connections that were closed just now are gone after a turn of the loop

    def __enter__(self) -> Self:
        self._socket = socket.socket(proto=socket.IPPROTO_TCP)  # named, else asyncio leaves Nagle's delay on
        self._socket.bind((self.host, 0))
        self._socket.listen()
        self.port: int = self._socket.getsockname()[1]
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()
