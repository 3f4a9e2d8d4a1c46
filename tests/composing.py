"""compose.yaml and Dockerfile as a test reads them, and their commands run without containers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.faults.installation import LEASE, ROOT, Installation
from tests.faults.servers import free_port

HOST = "touchstone.example.org"
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
GIVEN = {"SECRET_KEY": "k3" * 25, "POSTGRES_PASSWORD": "secret", "METRICS_TOKEN": "a-long-token"}


def example() -> dict[str, str]:
    """.env.example, filled in."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line)) | GIVEN


def compose() -> dict[str, Any]:
    """The file with its anchors and variables resolved."""
    values = example()

    def value(match: re.Match[str]) -> str:
        name, how, other = match.groups()
        assert how != "?" or values.get(name), f"{name} is demanded and not given"
        return values.get(name) or (other if how == "-" else "") or ""

    return dict(yaml.safe_load(VARIABLE.sub(value, (ROOT / "compose.yaml").read_text())))


def dockerfile() -> list[tuple[str, str]]:
    """Instructions and what they are given, lines joined."""
    text = (ROOT / "Dockerfile").read_text()
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in lines if line.strip()]


def instruction(name: str) -> str:
    """The last one of that name."""
    return [given for found, given in dockerfile() if found == name][-1]


def image_command() -> list[str]:
    return [str(word) for word in json.loads(instruction("CMD"))]


def image_health() -> list[str]:
    return [str(word) for word in json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])]


def image_environment() -> dict[str, str]:
    pairs = (word.split("=", 1) for word in instruction("ENV").split())
    return {name: value for name, value in pairs if name != "PATH"}


@dataclass
class Composed:
    """The services' commands as processes of this machine, on a data folder and static files of their own."""

    site: Installation
    folder: Path
    services: Mapping[str, Any]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.site.port}"

    def native(self, command: list[str]) -> list[str]:
        """What the container runs, with this Python and this port."""
        words = [word.replace("0.0.0.0:8000", f"127.0.0.1:{self.site.port}") for word in command]
        return [
            sys.executable if word == "python" else word.replace(":8000/", f":{self.site.port}/")
            for word in words
        ]

    def run(self, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        known = {**self.site.environment, **environment}
        return subprocess.run(
            self.native(command),
            cwd=ROOT,
            env=known,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    @contextmanager
    def started(self, *services: str) -> Iterator[None]:
        processes = [self.start(name) for name in services]
        try:
            yield
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(60)

    def start(self, service: str) -> subprocess.Popen[bytes]:
        command = self.native(self.services[service].get("command") or image_command())
        with (self.folder / f"{service}.log").open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=self.site.environment, stdout=log, stderr=log)

    def lines(self, service: str) -> list[dict[str, Any]]:
        """A service's log: one JSON object a line."""
        text = (self.folder / f"{service}.log").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def ask(self, path: str, form: str | None = None, **headers: str) -> tuple[int, str]:
        """Through the proxy that ends TLS, as far as the web server can tell."""
        sent = {"Host": HOST, "X-Forwarded-Proto": "https"} | {
            n.replace("_", "-"): v for n, v in headers.items()
        }
        request = urllib.request.Request(self.url + path, form.encode() if form else None, sent)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
                return int(response.status), str(response.read().decode())
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def answer_one(self, session: str, **headers: str) -> bool:
        """Take a pair and answer it, as a browser does; whether there was one."""
        sent = {
            "Cookie": f"sessionid={session}; csrftoken={'t' * 32}",
            "HX_Request": "true",
            "X_CSRFToken": "t" * 32,
            "Referer": f"https://{HOST}/projects/faults/compare/",
            **headers,
        }
        page = self.ask("/projects/faults/compare/", **sent)[1]
        if not (lease := LEASE.search(page)):
            return False
        form = f"side=left&lead_time=1.5&held={lease[1]}"
        status, text = self.ask(f"/projects/faults/leases/{lease[1]}/judgment/", form, **sent)
        assert status == 200, text
        return True


def composed(folder: Path, database: str, redis_port: int) -> Composed:
    """Nothing started: the environment of compose.yaml with names of its hosts replaced by private servers."""
    services = compose()["services"]
    environment = {name: str(value) for name, value in services["web"]["environment"].items()}
    environment |= image_environment() | {
        "DATABASE_URL": database,
        "CELERY_BROKER_URL": environment["CELERY_BROKER_URL"].replace(
            "redis:6379", f"127.0.0.1:{redis_port}"
        ),
        "REDIS_URL": environment["REDIS_URL"].replace("redis:6379", f"127.0.0.1:{redis_port}"),
        "STATIC_ROOT": str(folder / "static"),
        "ANSWERS_A_MINUTE": "0",
        "TOUCHSTONE_DATA": str(folder / "data"),
    }
    (folder / "data").mkdir(parents=True)
    site = Installation(folder / "data", **environment)
    site.port = free_port()
    return Composed(site, folder, services)


def wait(what: Any, seconds: float, why: str) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.1)
