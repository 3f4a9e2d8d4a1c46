"""One annotator of a crowd (see crowd.py), in a process of its own. Django is set up by whoever imports this.

Takes leases and answers through the write path, with pauses, doubled and simultaneous submits, skips, undos, and
crashes in and between transactions thrown in. Prints the id of every judgment that was acknowledged, and minus the
id of one that it is about to take back.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from uuid import UUID

from django.db import connection, transaction

from annotate import judging, serving
from annotate.errors import TouchstoneError
from annotate.judging import SIDES, Submission
from annotate.models import Judgment, Project, User


def act(project: Project, user: User, rng: random.Random) -> bool:
    """One lease and what comes of it; False when there is nothing at the moment."""
    leases = serving.leases_for(project, user, rng.choice([1, 2]))
    if not leases:
        return False
    time.sleep(rng.random() * (0.3 if rng.random() < 0.05 else 0.02))
    lease, chance = rng.choice(leases), rng.random()
    if chance < 0.05:
        judging.skip(user, lease.pk, "undecided")
    elif chance < 0.08:
        take_back(project, user)
    elif chance < 0.085:
        die_while_answering(user, lease.pk)
    else:
        answer(user, lease.pk, rng, doubled=chance < 0.25)
    return True


def answer(user: User, lease: UUID, rng: random.Random, doubled: bool) -> None:
    """Submit, perhaps again, perhaps again at the same moment as another tab, with another answer."""
    submissions = [Submission(rng.choice(SIDES), lead_time=rng.random() * 10) for _ in range(1 + doubled)]
    other_tab = threading.Thread(target=submit, args=(user, lease, submissions[-1]))
    if doubled:
        other_tab.start()
    submit(user, lease, submissions[0])
    if doubled:
        other_tab.join()


def submit(user: User, lease: UUID, submission: Submission) -> None:
    try:
        say(judging.record(user, lease, submission).pk)
    except TouchstoneError as error:
        print(f"refused: {error}", file=sys.stderr)  # noqa: T201
    finally:
        if threading.current_thread() is not threading.main_thread():
            connection.close()


def say(number: int) -> None:
    """In one system call: another thread's line cannot come between, and a kill leaves a whole line or none."""
    os.write(1, b"%d\n" % number)


def take_back(project: Project, user: User) -> None:
    mine = Judgment.objects.filter(project=project, annotator=user, replaced_at=None).order_by("-id")
    if last := mine.values_list("pk", flat=True).first():
        say(-last)
        judging.undo(user, project)


def die_while_answering(user: User, lease: UUID) -> None:
    """The power goes while the transaction is open: nothing of it may be found afterwards."""
    with transaction.atomic():
        judging.record(user, lease, Submission("left"))
        os._exit(9)


def annotate(slug: str, username: str, seconds: float, seed: int) -> None:
    """Act for so long; an expired lease is no crash."""
    project, user = Project.objects.get(slug=slug), User.objects.get(username=username)
    rng, end = random.Random(seed), time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if not act(project, user, rng):
                time.sleep(0.05)
        except TouchstoneError as error:
            print(f"refused: {error}", file=sys.stderr)  # noqa: T201
