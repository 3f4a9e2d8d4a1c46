"""An annotator in a process of its own: ``python -m tests.faults.annotator PROJECT USER COUNT SEED``.

Takes leases and answers through the write path, with doubled submits, skips, pauses and crashes thrown in, and
prints the id of every judgment that was acknowledged.
"""

from __future__ import annotations

import os
import random
import sys
import time

import django

django.setup()

from annotate import judging, serving  # noqa: E402
from annotate.errors import TouchstoneError  # noqa: E402
from annotate.judging import SIDES, Submission  # noqa: E402
from annotate.models import Project, User  # noqa: E402


def act(project: Project, user: User, rng: random.Random) -> bool:
    """One lease and what comes of it; False when nothing is left."""
    leases = serving.leases_for(project, user, rng.choice([1, 2]))
    if not leases:
        return False
    time.sleep(rng.random() * 0.01)
    lease, chance = rng.choice(leases), rng.random()
    if chance < 0.05:
        judging.skip(user, lease.pk, "unsure")
        return True
    submission = Submission(rng.choice(SIDES), lead_time=rng.random() * 10)
    for _ in range(2 if chance < 0.2 else 1):
        judgment = judging.record(user, lease.pk, submission)
        print(judgment.pk, flush=True)  # noqa: T201
    if chance > 0.995:
        os._exit(9)
    return True


def main(slug: str, username: str, count: int, seed: int) -> None:
    """Act so many times, or until nothing is left; an expired lease is no crash."""
    project, user = Project.objects.get(slug=slug), User.objects.get(username=username)
    rng = random.Random(seed)
    for _ in range(count):
        try:
            if not act(project, user, rng):
                break
        except TouchstoneError as error:
            print(f"refused: {error}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
