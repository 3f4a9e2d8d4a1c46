"""The large project that `benchmarks.pages` looks at, written in bulk."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

from annotate.models import (
    Comparison,
    Estimator,
    Evaluation,
    FeatureVersion,
    Finding,
    Judgment,
    Lease,
    Membership,
    Project,
    Prompt,
    Response,
    ResponseReward,
    Role,
    SourceReward,
    User,
)

BATCH = 5_000
VOCABULARY = 20_000
SAMPLE = 20_000
ARMS = ("active",) * 7 + ("control",) * 2 + ("evaluation",)


def build(args: argparse.Namespace) -> dict[str, float]:
    """Migrate, refuse a database that holds other projects, fill it unless it is full; seconds of each part."""
    call_command("migrate", verbosity=0)
    if Finding.objects.filter(project__slug="pages").exists():
        return {}
    if Project.objects.exists():
        raise SystemExit("This database holds projects already; name an empty one.")
    rng = np.random.default_rng(args.seed)
    admin = User.objects.create_superuser("pages-admin", "pages@example.org", "-")
    project = Project.objects.create(name="Pages", slug="pages", budget=10 * args.judgments, created_by=admin)
    people = [User.objects.create(username=f"pages-{i}", is_synthetic=True) for i in range(args.annotators)]
    Membership.objects.bulk_create(Membership(project=project, user=u, role=Role.ANNOTATOR) for u in people)
    words = Words(rng)
    figures = index_cost(project, words, args)
    postgres = connection.vendor == "postgresql"
    search = importlib.import_module(
        f"annotate.migrations.{'0019_stored_words' if postgres else '0009_search'}"
    )
    with connection.schema_editor() as editor:
        search.drop_indexes(None, editor)
    for name, part in (("responses", pool), ("rewards", rewards), ("judgments", judgments)):
        began = time.perf_counter()
        with transaction.atomic():
            part(project, people, words, args, rng)
        figures[f"seconds_to_write_{name}"] = round(time.perf_counter() - began, 1)
    began = time.perf_counter()
    with connection.schema_editor() as editor:
        search.make_indexes(None, editor)
    figures["seconds_to_make_the_text_indexes"] = round(time.perf_counter() - began, 1)
    documents(project)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return figures


class Words:
    """Texts of words whose frequency falls with their rank, as in a language: w0 is in nearly every text."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        weight = 1.0 / (np.arange(VOCABULARY) + 2.0)
        self._edges = np.cumsum(weight / weight.sum())
        self._names = np.array([f"w{i}" for i in range(VOCABULARY)], dtype=object)

    def texts(self, count: int, length: int) -> list[str]:
        drawn = np.searchsorted(self._edges, self._rng.random((count, length)))
        return [
            f"{i} " + " ".join(row) for i, row in enumerate(self._names[np.minimum(drawn, VOCABULARY - 1)])
        ]


def index_cost(project: Project, words: Words, args: argparse.Namespace) -> dict[str, float]:
    """Seconds to write some responses with the text index and without it, each rolled back."""
    prompt = Prompt.objects.create(project=project, position=10**9, text="cost", digest="cost")
    texts = words.texts(min(SAMPLE, args.responses), args.words)

    def write() -> None:
        rows = [
            Response(project=project, prompt=prompt, position=10**9 + i, text=text, digest=str(i))
            for i, text in enumerate(texts)
        ]
        Response.objects.bulk_create(rows, batch_size=500)

    took = {"with": timed(write)}
    without_index(lambda: took.update(without=timed(write)))
    prompt.delete()
    rate = {name: round(len(texts) / seconds) for name, seconds in took.items()}
    return {
        "responses_a_second_with_text_index": float(rate["with"]),
        "responses_a_second_without_text_index": float(rate["without"]),
    }


def timed(write: Callable[[], None]) -> float:
    """Seconds of what is then rolled back, but for the commit."""
    began = time.perf_counter()
    with transaction.atomic():
        write()
        took = time.perf_counter() - began
        transaction.set_rollback(True)
    return took


def without_index(act: Callable[[], None]) -> None:
    with transaction.atomic():
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("ALTER TABLE annotate_response DROP COLUMN text_words")
            else:
                cursor.execute("DROP TRIGGER annotate_response_text_added")
        act()
        transaction.set_rollback(True)


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def chunks(total: int, size: int = BATCH) -> Iterator[range]:
    for start in range(0, total, size):
        yield range(start, min(start + size, total))


def pool(project: Project, people: Sequence[User], words: Words, args: Any, rng: np.random.Generator) -> None:
    prompts = args.responses // args.per_prompt
    for part in chunks(prompts):
        texts = words.texts(len(part), 30)
        made = Prompt.objects.bulk_create(
            Prompt(
                project=project, position=i, text=text, digest=digest("p", i), is_evaluation=i % 10 == 0,
                tags=["code"] if i % 97 == 0 else ["chat"], response_count=args.per_prompt,
            )
            for i, text in zip(part, texts, strict=True)
        )  # fmt: skip
        answers = words.texts(len(part) * args.per_prompt, args.words)
        Response.objects.bulk_create(
            Response(
                project=project, prompt=made[n // args.per_prompt], position=part.start * args.per_prompt + n,
                text=text, source=f"model-{n % args.per_prompt}", digest=digest("r", part.start, n), utility=n % 7,
            )
            for n, text in enumerate(answers)
        )  # fmt: skip
    project.prompt_count, project.response_count = prompts, prompts * args.per_prompt
    project.largest_prompt = args.per_prompt
    project.save()


def rewards(
    project: Project, people: Sequence[User], words: Words, args: Any, rng: np.random.Generator
) -> None:
    keys = list(Response.objects.filter(project=project).order_by("position").values_list("pk", flat=True))
    for part in chunks(len(keys)):
        values = rng.standard_normal(len(part))
        ResponseReward.objects.bulk_create(
            ResponseReward(response_id=keys[i], project=project, reward=v, low=v - 0.4, high=v + 0.4)
            for i, v in zip(part, values.tolist(), strict=True)
        )


def judgments(
    project: Project, people: Sequence[User], words: Words, args: Any, rng: np.random.Generator
) -> None:
    now = timezone.now()
    firsts = Response.objects.filter(project=project).order_by("position").values_list("pk", "prompt_id")
    rows = list(firsts)[:: args.per_prompt]
    pairs = [(pk, prompt, step) for step in range(1, args.per_prompt) for pk, prompt in rows][
        : args.judgments
    ]
    for part in chunks(len(pairs)):
        width, predicted = rng.random(len(part)), rng.random(len(part))
        comparisons = Comparison.objects.bulk_create(
            Comparison(
                project=project, prompt_id=pairs[i][1], first_id=pairs[i][0], second_id=pairs[i][0] + pairs[i][2],
                state="done", arm=ARMS[i % 10], draw=i, arm_probability=0.7, rule="d_optimal", probability=1.0,
                score=float(width[n]), width=float(width[n]), predicted=float(predicted[n]), estimator_step=i,
                wanted=1, taken=1, judged=1,
            )
            for n, i in enumerate(part)
        )  # fmt: skip
        leases = Lease.objects.bulk_create(
            Lease(
                project=project, comparison=one, annotator=people[i % len(people)], swapped=bool(i % 2),
                outcome="judged", expires_at=now,
            )
            for i, one in zip(part, comparisons, strict=True)
        )  # fmt: skip
        why = words.texts(len(part), 8)
        Judgment.objects.bulk_create(
            Judgment(
                project=project, comparison_id=lease.comparison_id, lease=lease, annotator=lease.annotator,
                answer="both_bad" if i % 997 == 0 else ("first", "second", "tie")[i % 3], lead_time=float(5 + i % 40),
                rationale=why[i - part.start] if i % 10 == 0 else "", absorbed_step=i + 1, absorbed_at=now,
                created_at=now - timedelta(seconds=20 * (len(pairs) - i)),
            )
            for i, lease in zip(part, leases, strict=True)
        )  # fmt: skip


def documents(project: Project) -> None:
    """What the learn worker would have left."""
    version = FeatureVersion.objects.create(
        project=project, encoder="hashing", state="live", embedded=project.response_count
    )
    counts = [25 * 2**k for k in range(12)]
    metrics = {"log_loss": [0.6, 0.5, 0.7], "accuracy": [0.7, 0.6, 0.8], "ece": [0.03, 0.01, 0.05]}
    for role in ("production", "active", "control"):
        one = Estimator.objects.create(project=project, feature_version=version, role=role, step=10**5)
        Evaluation.objects.bulk_create(
            Evaluation(estimator=one, judgments=n, held_out=10_000, metrics=metrics) for n in counts
        )
    SourceReward.objects.bulk_create(
        SourceReward(
            project=project, source=f"model-{k}", responses=100_000, reward=k, low=k - 1, high=k + 1, step=1
        )
        for k in range(4)
    )
    gain = {"more": 100, "last": counts[-1], "gain": [0.001, 0.0, 0.002], "measured": [[n, 0.6] for n in counts],
            "fitted": [[n, 0.6, 0.5, 0.7] for n in counts]}  # fmt: skip
    bins = [[0.5 + k / 20, 0.5 + k / 20, 0.5, 0.9, 1000] for k in range(10)]
    calibration = {"bins": bins, "ece": [0.03, 0.01, 0.05], "floor": 0.02, "held_out": 10_000}
    Finding.objects.bulk_create(
        Finding(project=project, name=name, step=10**5, data=data)
        for name, data in (("gain", gain), ("calibration", calibration), ("rewards", {}))
    )
