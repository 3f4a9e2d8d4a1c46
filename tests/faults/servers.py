"""PostgreSQL, Redis and a wire to cut, private to a test: on free ports, in its own folder, gone with it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def postgres_folder() -> Path | None:
    """Where the server's programs are: Debian keeps them out of the way."""
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    if found := shutil.which("initdb"):
        places.append(Path(found).resolve().parent)
    return next((place for place in places if (place / "initdb").exists()), None)


def wait_for(port: int, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert time.monotonic() < deadline, f"nothing listens on {port}"
        time.sleep(0.05)


class Redis:
    """A Redis that keeps nothing on the disk: killed, it comes back empty."""

    def __init__(self) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = [
            "redis-server",
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_for(self.port)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


class Postgres:
    """A PostgreSQL in a folder; as root it runs as nobody, since it refuses to run as root."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs, self.port = folder, programs, free_port()
        self.user = "nobody" if os.geteuid() == 0 else None

    @property
    def url(self) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        self.folder.mkdir(parents=True)
        if self.user:
            shutil.chown(self.folder, self.user)
        self.program("initdb", "-D", str(self.folder), "-U", "postgres", "-A", "trust", "-N")
        self.start()

    def start(self) -> None:
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=60"
        )
        self.program(
            "pg_ctl", "start", "-w", "-D", str(self.folder), "-o", options, "-l", str(self.folder / "log")
        )

    def stop(self, how: str = "immediate") -> None:
        """``immediate`` is a crash: the next start recovers from the log."""
        self.program("pg_ctl", "stop", "-w", "-D", str(self.folder), "-m", how)

    def program(self, name: str, *arguments: str) -> None:
        command = [str(self.programs / name), *arguments]
        subprocess.run(command, check=True, user=self.user, cwd="/", stdout=subprocess.DEVNULL, timeout=120)


@contextmanager
def redis() -> Iterator[Redis]:
    server = Redis()
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def postgres(programs: Path) -> Iterator[Postgres]:
    """In a folder of its own: pytest's are closed to the user that PostgreSQL runs as."""
    with tempfile.TemporaryDirectory(prefix="touchstone-postgres-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        server = Postgres(Path(folder) / "data", programs)
        server.create()
        try:
            yield server
        finally:
            with suppress(subprocess.SubprocessError):
                server.stop()


class Wire:
    """A TCP proxy that can be cut: open connections drop, new ones are refused, until it is mended."""

    def __init__(self, target: int) -> None:
        self.target, self.whole = target, True
        self.ends: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self.listener.accept()
                if not self.whole:
                    here.close()
                    continue
                there = socket.create_connection(("127.0.0.1", self.target))
                self.ends += [here, there]
                for source, sink in ((here, there), (there, here)):
                    threading.Thread(target=pump, args=(source, sink), daemon=True).start()

    def cut(self) -> None:
        self.whole = False
        for end in self.ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.ends.clear()

    def mend(self) -> None:
        self.whole = True


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
