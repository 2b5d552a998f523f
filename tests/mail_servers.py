"""Mail servers that behave badly, and whom the mail reached; `examples.mail_server` has the one that behaves."""

# ruff: noqa: N802 - aiosmtpd calls its hooks by these names

import asyncio
from typing import Any

from aiosmtpd.smtp import SMTP

from examples.mail_server import MailServer


def reached(server: MailServer) -> list[tuple[str, ...]]:
    """Whom each accepted message went to."""
    return [received.recipients for received in server.mails]


# Nothing goes out


class AsciiServer(MailServer):
    """Knows nothing of RFC 6531."""

    def _converse(self) -> SMTP:
        return SMTP(self, hostname="mail.example", enable_SMTPUTF8=False, loop=self._loop)


class RefusesSender(MailServer):
    """Does not want mail from us."""

    async def handle_MAIL(self, *_: Any) -> str:
        """Refuses."""
        return "550 5.7.1 go away"


class RefusesData(MailServer):
    """Does not want the message."""

    async def handle_DATA(self, *_: Any) -> str:
        """Refuses."""
        return "554 5.6.0 no"


class Asleep(MailServer):
    """Closes its service before the recipients are through."""

    async def handle_RCPT(self, *_: Any) -> str:
        """Says that it closes."""
        return "421 4.3.2 closing"


# Nobody knows what went out


class Stalls(MailServer):
    """Takes the message and never answers."""

    async def handle_DATA(self, *args: Any) -> str:
        """Waits for ever."""
        await super().handle_DATA(*args)
        await asyncio.Event().wait()
        return "250 OK"


class HangsUpAfterData(MailServer):
    """Takes the message and loses the connection before its answer."""

    async def handle_DATA(self, server: Any, *args: Any) -> str:
        """Hangs up."""
        await super().handle_DATA(server, *args)
        server.transport.abort()
        return "250 OK"


class Mumbles(MailServer):
    """Answers with a code that means nothing."""

    async def handle_DATA(self, *args: Any) -> str:
        """Mumbles."""
        await super().handle_DATA(*args)
        return "299 hm"


class RamblesOn(MailServer):
    """Answers with a line that is too long for smtplib."""

    async def handle_DATA(self, *args: Any) -> str:
        """Rambles on."""
        await super().handle_DATA(*args)
        return "250 " + "O" * 10_000 + "K"


class HangsUpInData(MailServer):
    """Asks for the message and loses the connection while it comes."""

    class conversation(SMTP):  # noqa: N801
        """Hangs up after 354."""

        async def smtp_DATA(self, arg: str) -> None:
            """Hangs up."""
            await self.push("354 go on")
            self.transport.abort()  # type: ignore[union-attr]


class Babbles(MailServer):
    """Answers with what is no reply."""

    class conversation(SMTP):  # noqa: N801
        """Babbles instead of the last reply."""

        async def push(self, status: Any) -> None:
            """Every reply as it is, but for the last one."""
            if self.session is not None and getattr(self.event_handler, "mails", None):
                status = "hello?"
            await super().push(status)


# Nobody is there to talk to


class Silent(MailServer):
    """Accepts a connection and says nothing."""

    class conversation(SMTP):  # noqa: N801
        """Has no greeting."""

        async def _handle_client(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                self.transport.abort()  # type: ignore[union-attr]


class HangsUpAtOnce(MailServer):
    """Accepts a connection and closes it."""

    class conversation(SMTP):  # noqa: N801
        """Has no greeting, and does not wait for one."""

        async def _handle_client(self) -> None:
            self.transport.abort()  # type: ignore[union-attr]


class TurnsAway(MailServer):
    """Serves nobody (RFC 5321 section 3.1)."""

    class conversation(SMTP):  # noqa: N801
        """Says so."""

        async def push(self, status: Any) -> None:
            """Says so."""
            await super().push("554 no service here" if str(status).startswith("220") else status)
