"""A mail service's HTTP interface on this machine, as far as anymail's Postmark backend needs it."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Reply = tuple[int, Any]


class MailService:
    """Keeps what is posted to it. `answer`: from a message to the HTTP code and the document of the reply."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], Reply] = accepted
        posted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                posted.posted.append(message)
                code, document = posted.answer(message)
                if code == 0:  # hang up
                    self.close_connection = True
                    return
                body = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def accepted(message: dict[str, Any]) -> Reply:
    """All recipients are written to."""
    return 200, {"ErrorCode": 0, "Message": "OK", "MessageID": "m-1", "To": message.get("To", "")}


def inactive(*addresses: str) -> Callable[[dict[str, Any]], Reply]:
    """These are not, because they bounced before."""

    def answer(message: dict[str, Any]) -> Reply:
        text = f"Message OK, but will not deliver to these inactive addresses: {', '.join(addresses)}. "
        text += "Inactive recipients are ones that have generated a hard bounce or a spam complaint."
        return 200, {**accepted(message)[1], "Message": text}

    return answer
