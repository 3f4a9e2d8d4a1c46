"""Annotators over HTTP, in processes of their own: ``python -m benchmarks.annotators`` reads its orders from stdin.

Each is a browser's worth of behaviour on one connection that stays open: the page, then answers with the session's
cookie and CSRF token; an answer brings the next pair, as the page's script asks for it. Nothing of the site is
imported here.
"""

from __future__ import annotations

import json
import random
import re
import sys
import threading
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

LEASE = re.compile(r'data-lease="([0-9a-f-]{36})"')
NOTHING = re.compile(r'data-nothing="([a-z_]+)"')
FORM = "application/x-www-form-urlencoded"
Timed = tuple[float, float]  # when it was sent, seconds that it took


@dataclass(frozen=True)
class Orders:
    """Where to go, until when, and how quickly."""

    host: str
    port: int
    slug: str
    begin: float
    end: float
    pause: float
    reload_every: int


@dataclass
class Seen:
    """What one annotator saw: times, the leases that were acknowledged, everything that was not a plain success."""

    next: list[Timed] = field(default_factory=list)
    submit: list[Timed] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    nothing: int = 0


class Annotator(threading.Thread):
    """One person: looks, answers, looks again."""

    def __init__(self, orders: Orders, session: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.orders, self.rng, self.seen = orders, random.Random(seed), Seen()
        self.base = f"/projects/{orders.slug}/"
        self.cookies = {"sessionid": session}
        self.connection = HTTPConnection(orders.host, orders.port, timeout=30)
        self.held: list[str] = []

    def run(self) -> None:
        due = time.time() + self.rng.random() * (self.orders.pause + 0.05)
        answers = 0
        while due < self.orders.end:
            time.sleep(max(0.0, due - time.time()))
            if not self.held or answers % self.orders.reload_every == 0:
                self.look()
            if self.held:
                self.answer()
                answers += 1
            after = self.orders.pause * (0.5 + self.rng.random()) if self.held else 0.05
            due = max(due + after, time.time())  # an answer that took long does not slow the pace down
        self.connection.close()

    def look(self) -> None:
        """Load the page, as after a click on Compare or a reload."""
        began = time.time()
        text = self.ask("GET", "compare/")
        self.seen.next.append((began, time.time() - began))
        self.held = LEASE.findall(text)[:2]
        self.seen.nothing += bool(NOTHING.search(text))

    def answer(self) -> None:
        """Send the answer to the first pair; the reply brings a pair that is not held yet."""
        lease, *self.held = self.held
        form = {"side": self.rng.choice(("left", "right")), "lead_time": "3.2", "held": ",".join(self.held)}
        began = time.time()
        text = self.ask("POST", f"leases/{lease}/judgment/", form)
        self.seen.submit.append((began, time.time() - began))
        if "data-fragment" in text:
            self.seen.acknowledged.append(lease)
            self.held += LEASE.findall(text)

    def ask(self, method: str, path: str, form: dict[str, str] | None = None) -> str:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if form is not None:
            headers |= {"HX-Request": "true", "X-CSRFToken": self.cookies["csrftoken"], "Content-Type": FORM}
        try:
            self.connection.request(method, self.base + path, urlencode(form) if form else None, headers)
            response = self.connection.getresponse()
            text = response.read().decode()
        except (OSError, HTTPException) as error:
            self.connection.close()
            self.seen.errors.append(f"{method} {path}: {error!r}")
            return ""
        for line in response.headers.get_all("Set-Cookie", []):
            self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(line).items()}
        if response.status != 200:
            self.seen.errors.append(f"{method} {path}: {response.status} {text[:200]}")
            return ""
        return text


def main(given: dict[str, Any]) -> dict[str, Any]:
    """Let these people work until the end; what they saw, put together."""
    orders = Orders(**given["orders"])
    people = [Annotator(orders, session, seed) for seed, session in enumerate(given["sessions"])]
    for person in people:
        person.start()
    for person in people:
        person.join(orders.end - time.time() + 60)
    return together([vars(person.seen) for person in people])


def together(seen: list[dict[str, Any]]) -> dict[str, Any]:
    """The lists of several, one after another, and the sums of their counts."""
    whole: dict[str, Any] = vars(Seen())
    for one in seen:
        whole = {name: whole[name] + value for name, value in one.items()}
    return whole


if __name__ == "__main__":
    json.dump(main(json.load(sys.stdin)), sys.stdout)
