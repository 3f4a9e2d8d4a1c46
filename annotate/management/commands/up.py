"""One command: database, accounts, web server and worker, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotate.accounts import first_accounts

PATIENCE = 10.0


class Command(BaseCommand):
    help = "Open a working installation: migrate, make the first accounts, start web server and worker."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", default=os.environ.get("PORT", "8000"), help="Port of the web server.")
        parser.add_argument(
            "--host", default=os.environ.get("HOST", "127.0.0.1"), help="Address to listen on."
        )
        parser.add_argument("--demo", action="store_true", help="Make the demo projects on the first start.")

    def handle(self, *args: Any, **options: Any) -> None:
        host, port = options["host"], free_port(options["host"], options["port"])
        call_command("migrate", verbosity=0, interactive=False)
        accounts = first_accounts(demo=options["demo"])
        if options["demo"]:
            call_command("demo", stdout=self.stdout)
        clear_bells()
        self.stdout.write(f"\nTouchstone is at http://{shown(host)}:{port}/   (Ctrl-C stops it)\n")
        for account in accounts:
            self.stdout.write(f"  {account.role:<10} {account.username:<12} {account.password}\n")
        if accounts:
            self.stdout.write("  These passwords are shown once; change them under Account.\n")
        self.stdout.flush()
        supervise([["serve", "--bind", f"{host}:{port}"], ["work"]])


def shown(host: str) -> str:
    """The address as a person types it."""
    return "localhost" if host in ("127.0.0.1", "0.0.0.0", "::") else host  # noqa: S104


def free_port(host: str, port: str) -> int:
    """The port as a number, if it can be listened on."""
    if not port.isdigit() or not 1 <= int(port) <= 65_535:
        raise CommandError(f"PORT is a number from 1 to 65535; this was {port!r}.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            raise CommandError(
                f"Port {port} cannot be used ({error.strerror}). Choose another: PORT=8001 make run"
            ) from error
    return int(port)


def clear_bells() -> None:
    """Old messages of the folder broker are worth nothing: the worker sweeps the rows when it starts."""
    for message in (Path(settings.DATA) / "broker").glob("*.msg"):
        message.unlink(missing_ok=True)


def supervise(commands: list[list[str]]) -> None:
    """Run the commands as children, start again what dies, and leave no orphan however this process ends."""
    reading, writing = os.pipe()
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    children = [start(command, reading) for command in commands]
    while not stopping:
        time.sleep(0.2)
        for i, child in enumerate(children):
            if child.poll() is not None and not stopping:
                time.sleep(0.5)
                children[i] = start(commands[i], reading)
    os.close(writing)
    end(children)


def start(command: list[str], descriptor: int) -> subprocess.Popen[bytes]:
    """Start ``manage.py COMMAND`` in a session of its own, so that Ctrl-C reaches the parent alone."""
    environment = os.environ | {"TOUCHSTONE_PARENT_FD": str(descriptor)}
    return subprocess.Popen(
        [sys.executable, str(settings.BASE_DIR / "manage.py"), *command],
        env=environment,
        pass_fds=[descriptor],
        start_new_session=True,
    )


def end(children: list[subprocess.Popen[bytes]]) -> None:
    """Ask the children to end; kill what does not, which loses nothing by design."""
    for child in children:
        child.terminate()
    deadline = time.monotonic() + PATIENCE
    for child in children:
        try:
            child.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
