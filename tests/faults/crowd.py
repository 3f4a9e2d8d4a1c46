"""A crowd of annotators in real processes, some of them killed; and what must hold of the rows afterwards.

``python -m tests.faults.crowd PROJECT SECONDS KILL_EVERY USER...`` prints what the annotators said as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
CRASHED = 9


class Crowd:
    """Forks of this process, one for each annotator; who dies is replaced by another of the same name."""

    def __init__(self, slug: str, names: list[str], seconds: float) -> None:
        self.slug, self.names, self.end = slug, names, time.monotonic() + seconds
        self.kills = self.crashes = self.seed = self.failures = 0
        self.outputs: list[IO[bytes]] = []

    def start(self, name: str) -> int:
        self.seed += 1
        self.outputs.append(tempfile.TemporaryFile())  # noqa: SIM115 - read at the end
        if child := os.fork():
            return child
        os.dup2(self.outputs[-1].fileno(), 1)
        self.annotate(name)
        sys.stdout.flush()
        os._exit(0)

    def annotate(self, name: str) -> None:
        from tests.faults.annotator import annotate

        try:
            annotate(self.slug, name, self.end - time.monotonic(), self.seed)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)

    def work(self, kill_every: float) -> None:
        """Let them work; kill -9 one every so often, start again who died; wait for all."""
        rng, running = random.Random(0), {self.start(name): name for name in self.names}
        next_kill = time.monotonic() + kill_every
        while running:
            time.sleep(0.02)
            left = self.end - time.monotonic()
            if left > 0 and time.monotonic() > next_kill:
                os.kill(rng.choice(list(running)), signal.SIGKILL)
                self.kills, next_kill = self.kills + 1, time.monotonic() + kill_every
            while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
                name = running.pop(ended[0])
                self.note(ended[1])
                if left > 0.5:
                    running[self.start(name)] = name

    def note(self, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        self.crashes += code == CRASHED
        self.failures += code not in (0, CRASHED, -signal.SIGKILL)

    def said(self) -> dict[str, Any]:
        """Judgments that were acknowledged, and those that their annotators then meant to take back."""
        numbers: list[int] = []
        for file in self.outputs:
            file.seek(0)
            numbers += [int(line) for line in file.read().decode().split("\n")[:-1]]
        return {
            "acknowledged": [n for n in numbers if n > 0],
            "taken_back": [-n for n in numbers if n < 0],
            "kills": self.kills,
            "crashes": self.crashes,
            "failures": self.failures,
        }


def run(
    environment: dict[str, str], slug: str, names: list[str], seconds: float, kill_every: float
) -> dict[str, Any]:
    """Let a crowd work in processes of its own; what they said."""
    command = [sys.executable, "-m", "tests.faults.crowd", slug, str(seconds), str(kill_every), *names]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 200
    )
    assert done.returncode == 0, done.stderr[-4000:]
    said = dict(json.loads(done.stdout))
    assert not said["failures"], done.stderr[-4000:]
    return said


def faults(slug: str, acknowledged: set[int], taken_back: set[int]) -> dict[str, int]:
    """Counts of everything that may not be, and of the current judgments. Runs inside Django."""
    from django.db.models import Count, F, Q

    from annotate.models import Comparison, Judgment, Lease

    judgments = Judgment.objects.filter(project__slug=slug, replaced_at=None)
    rows = Comparison.objects.filter(project__slug=slug).annotate(
        leased=Count("leases", filter=Q(leases__outcome=Lease.Outcome.OPEN), distinct=True),
        current=Count("judgments", filter=Q(judgments__replaced_at=None), distinct=True),
    )
    twice = judgments.order_by().values("comparison", "annotator").annotate(n=Count("pk")).filter(n__gt=1)
    current = set(judgments.values_list("pk", flat=True))
    wrong = ~Q(judged=F("current")) | ~Q(taken=F("current") + F("leased"))
    return {
        "judgments": len(current),
        "beyond_k": rows.filter(current__gt=F("wanted")).count(),
        "twice": twice.count(),
        "lost": len(acknowledged - taken_back - current),
        "counters_wrong": rows.filter(wrong).count(),
    }


def main(slug: str, seconds: str, kill_every: str, *names: str) -> None:
    import django

    django.setup()
    import tests.faults.annotator  # noqa: F401 - loaded once, before the forks

    crowd = Crowd(slug, list(names), float(seconds))
    crowd.work(float(kill_every))
    print(json.dumps(crowd.said()))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
