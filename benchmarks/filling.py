"""Run inside a private installation: ``python -m benchmarks.filling fill|ready|stored ...`` prints one line of JSON."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotate.settings")
django.setup()

import numpy as np  # noqa: E402
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.db.models import Count, F, Q  # noqa: E402

from annotate import draws  # noqa: E402
from annotate.models import Comparison, Judgment, Membership, Project, Prompt, Response, Role, User  # noqa: E402

BATCH = 2_000
WORDS = re.findall(
    r"\w+",
    """
    tide moon water shore current harbour table column reason example answer question measure light colour number
    method result change figure argument sentence detail language model reward policy sample prompt context value
    estimate error window matrix vector budget interval project careful short direct plain useful wrong right first
""",
)


def fill(pairs: int, responses: int, people: int) -> dict[str, Any]:
    """A project with at least so many pairs (prompts of equally many responses), and people who are signed in."""
    project = Project.objects.create(name="Serving", slug="serving", encoder="hashing", dimensions=32)
    prompts = -(-pairs // (responses * (responses - 1) // 2))
    add_pool(project, prompts, responses, random.Random(0))
    return {"sessions": [sign_in(project, f"annotator-{i}") for i in range(people)], "prompts": prompts}


def add_pool(project: Project, prompts: int, responses: int, rng: random.Random) -> None:
    for start in range(0, prompts, BATCH):
        rows = [new_prompt(project, i, responses, rng) for i in range(start, min(start + BATCH, prompts))]
        Prompt.objects.bulk_create(rows)
        answers = [
            new_response(project, prompt, prompt.position * responses + k, rng)
            for prompt in rows
            for k in range(responses)
        ]
        Response.objects.bulk_create(answers)
    project.prompt_count, project.response_count = prompts, prompts * responses
    project.largest_prompt = responses
    project.save()


def new_prompt(project: Project, position: int, responses: int, rng: random.Random) -> Prompt:
    text = f"Question {position}: {prose(rng, 30)}?"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Prompt(
        project=project,
        position=position,
        text=text,
        digest=digest,
        response_count=responses,
        is_evaluation=draws.is_evaluation_prompt(project, digest),
    )


def new_response(project: Project, prompt: Prompt, position: int, rng: random.Random) -> Response:
    text = "\n\n".join(markdown(rng, position))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Response(
        project=project, prompt=prompt, position=position, text=text, digest=digest, source="made"
    )


def markdown(rng: random.Random, position: int) -> Iterator[str]:
    """About 130 words as models write them: a paragraph, a list, and now and then code."""
    yield f"{prose(rng, 40)}. **{prose(rng, 3)}** {prose(rng, 12)}, answer {position}."
    yield "\n".join(f"{i}. *{prose(rng, 2)}*: {prose(rng, 14)}." for i in range(1, 4))
    if position % 8 == 0:
        yield f"```python\nfor {rng.choice(WORDS)} in range({position}):\n    print('{prose(rng, 3)}')\n```"
    yield f"{prose(rng, 25)}. See `{rng.choice(WORDS)}` for more."


def prose(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def sign_in(project: Project, name: str) -> str:
    """A member with a session, as after signing in; its key."""
    user = User(username=name)
    user.set_unusable_password()
    user.save()
    Membership.objects.create(project=project, user=user, role=Role.ANNOTATOR)
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "allauth.account.auth_backends.AuthenticationBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key)


def ready() -> dict[str, int]:
    """Responses that are embedded, and pairs that wait."""
    project = Project.objects.get(slug="serving")
    live = project.feature_versions.filter(state="live").first()
    waiting = project.comparisons.filter(state="open", taken=0).count()
    return {"embedded": live.embedded if live else 0, "of": project.response_count, "waiting": waiting}


def stored(since: float, until: float) -> dict[str, Any]:
    """What the database says of the judgments that were made between two times."""
    between = (datetime.fromtimestamp(since, UTC), datetime.fromtimestamp(until, UTC))
    made = Judgment.objects.filter(project__slug="serving", created_at__range=between)
    times = made.filter(absorbed_at__isnull=False).values_list("created_at", "absorbed_at")
    lags = [(absorbed - created).total_seconds() for created, absorbed in times if absorbed]
    p50, p95, p99 = np.percentile(lags or [np.nan], [50, 95, 99]) * 1e3
    every = Judgment.objects.filter(project__slug="serving", replaced_at=None)
    return {
        "lag_p50_ms": float(p50),
        "lag_p95_ms": float(p95),
        "lag_p99_ms": float(p99),
        "waiting": every.filter(absorbed_step=None).count(),
        "duplicates": duplicates(),
        "leases": [str(lease) for lease in every.values_list("lease", flat=True)],
        "arms": dict(made.values_list("comparison__arm").annotate(n=Count("id"))),
    }


def duplicates() -> int:
    """Judgments beyond what was wanted of a pair, by one person twice, or with a step that another has."""
    mine = Judgment.objects.filter(project__slug="serving", replaced_at=None)
    twice = mine.values("comparison", "annotator").annotate(n=Count("id")).filter(n__gt=1).count()
    steps = mine.filter(absorbed_step__isnull=False).values("absorbed_step").annotate(n=Count("id"))
    current = Count("judgments", filter=Q(judgments__replaced_at=None))
    beyond = Comparison.objects.filter(project__slug="serving").annotate(n=current).filter(n__gt=F("wanted"))
    return twice + steps.filter(n__gt=1).count() + beyond.count()


def main(what: str, *arguments: str) -> None:
    if what == "fill":
        found: Any = fill(*map(int, arguments))
    else:
        found = ready() if what == "ready" else stored(*map(float, arguments))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
