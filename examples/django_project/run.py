"""Runs the shop's commands against a real mail server (aiosmtpd) on this machine; nothing leaves it.

Usage: python examples/django_project/run.py
"""

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from mail_server import MailServer  # noqa: E402 - found once the path is known

COMMANDS = (
    "check --deploy --tag fairtouch",
    "unsubscribe bob@example.com",
    "send_newsletter 47",
    "send_newsletter 47",
    "fairtouch_check customer-1 --topic newsletter",
    "fairtouch_history customer-1",
)


def main() -> None:
    """Shows each command with what it prints, and then whom the mail server got messages for."""
    with tempfile.TemporaryDirectory() as folder, MailServer(gone={"gone@example.net"}) as server:
        environment = {
            **os.environ,
            "SHOP_MAIL_HOST": server.host,
            "SHOP_MAIL_PORT": str(server.port),
            "SHOP_STORE": f"sqlite:///{folder}/touches.db",
        }
        for command in COMMANDS:
            print(f"$ python manage.py {command}", flush=True)
            program = [sys.executable, str(HERE / "manage.py"), *shlex.split(command)]
            subprocess.run(program, env=environment, check=True)  # noqa: S603 - its own commands
    print("The mail server has messages for", ", ".join(to for mail in server.mails for to in mail.recipients))


if __name__ == "__main__":
    main()
