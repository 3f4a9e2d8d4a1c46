"""The deployment benchmark through the product: every request and every choice by the API, absorbed by its learner.

One private site, one project with the pool's responses and their given embeddings. For each seed and rule the project
begins anew; the rule is put in the place of the draw. Afterwards the same answers are read by ``learner.log`` alone,
and its state must have the digest that the product stored.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from typing import Any
from unittest.mock import patch

import numpy as np
from scipy.special import expit

from benchmarks.pools import Floats, Pool, Rows
from benchmarks.site import private_site
from learner.errors import LearnerError

SLUG = "deployment"


class Product:
    """The site in this process: a client with a token, and the worker at work whenever somebody waits."""

    def __init__(self, pool: Pool, phi: Floats, beta: float) -> None:
        from django.test import Client
        from django.utils import timezone

        from annotate import tokens
        from annotate.models import Deployment, Heartbeat, Membership, Project, Role, User

        self.pool = pool
        user = User.objects.create_user("admin")
        self.project = Project.objects.create(name="Deployment", slug=SLUG, encoder="hashing")
        Membership.objects.create(project=self.project, user=user, role=Role.ADMIN)
        Deployment.objects.create(project=self.project, is_on=True, optimism=beta, baseline_share=0.0)
        far = timezone.now() + timedelta(days=1)
        Heartbeat.objects.create(worker="benchmark", queues="score", seen_at=far)
        self.rows = self.fill(phi)
        token = tokens.make(user, "benchmark", ["deploy"], None, 7)[1]
        self.client = Client(headers={"Authorization": f"Bearer {token}"})

    def fill(self, phi: Floats) -> Rows:
        """Bring the pool in as users' prompts with stored features; the position of every row of the pool."""
        from annotate.importing import chunk, texts
        from annotate.importing.rows import PromptIn, Row, plain_response
        from annotate.models import Response

        rows = []
        for number in np.unique(self.pool.prompt):
            mine = np.flatnonzero(self.pool.prompt == number)
            messages = [{"role": "user", "content": self.pool.prompts[number]}]
            prompt = PromptIn(messages, texts.digest_of_messages(messages), is_deployment=True)
            rows.append(
                Row(int(number), prompt, [plain_response(self.pool.texts[i], self.pool.ids[i]) for i in mine])
            )
        for start in range(0, len(rows), 50):
            chunk.write(self.project.pk, rows[start : start + 50])
        self.project.refresh_from_db()
        stored = dict(Response.objects.values_list("external_id", "position"))
        found = np.array([stored.get(name, -1) for name in self.pool.ids], dtype=np.int64)
        store_features(self.project, phi, found)
        return found

    def begin_anew(self) -> None:
        """Forget every request, judgment and estimator; the pool and its features stay."""
        from annotate.models import Comparison, DeploymentRequest, Estimator, Judgment, Lease
        from learner.tasks.following import _followers
        from learner.tasks.states import forget_cached

        for model in (DeploymentRequest, Judgment, Lease, Comparison, Estimator):
            model.objects.filter(project=self.project).delete()
        forget_cached(self.project.pk)
        _followers.clear()
        for role in ("production", "active", "control"):
            Estimator.objects.create(
                project=self.project, feature_version=self.project.feature_versions.get(), role=role
            )

    def post(self, path: str, body: Any) -> Any:
        answer = self.client.post(
            f"/api/v1/projects/{SLUG}/{path}", json.dumps(body), content_type="application/json"
        )
        if answer.status_code != 200:
            raise LearnerError(f"{path}: {answer.status_code} {answer.content[:300]!r}")
        return answer.json()


def store_features(project: Any, phi: Floats, positions: Rows) -> None:
    """A live feature version whose rows are these features, as an embed worker would have left it."""
    from pathlib import Path

    from django.conf import settings
    from django.utils import timezone

    from annotate.models import FeatureVersion
    from learner import store
    from learner.features import FeaturePipeline

    d = phi.shape[1]
    pipeline = FeaturePipeline(np.zeros(d), np.eye(d), np.zeros(0), np.zeros(0), 1.0)
    version = FeatureVersion.objects.create(
        project=project, encoder="hashing", dimension=d, embedded=project.response_count,
        state=FeatureVersion.State.LIVE, live_at=timezone.now(),
        config={"columns": False, "pipeline": pipeline.version},
    )  # fmt: skip
    folder = Path(settings.DATA) / version.folder
    version.digest = store.write_state(folder / "pipeline.safetensors", pipeline.state(), {})
    version.save()
    rows = np.zeros((project.response_count, d))
    rows[positions[positions >= 0]] = phi[positions >= 0]
    store.write_shard(folder / "features", 0, rows, pipeline.version)


def drive(
    pool: Pool, phi: Floats, streams: list[Any], rules: list[str], args: argparse.Namespace
) -> dict[str, Floats]:
    """Traces (seeds, 4, T) by rule, as the benchmark without the product has them."""
    found = trace_parts(pool, phi, streams, args, [(rule, i) for rule in rules for i in range(len(streams))])
    return {rule: np.stack([found[rule, i] for i in range(len(streams))]) for rule in rules}


def trace_parts(
    pool: Pool, phi: Floats, streams: list[Any], args: argparse.Namespace, parts: list[tuple[str, int]]
) -> dict[tuple[str, int], Floats]:
    """Some rules on some streams, one after the other on the site of this process."""
    from annotate import scoring
    from learner.tasks.scoring import answer_waiting

    with patch.object(scoring, "between_looks", lambda _seconds: answer_waiting()):
        product = Product(pool, phi, args.beta)
        return {(rule, i): follow(product, streams[i], rule, phi) for rule, i in parts}


def follow(product: Product, stream: Any, rule: str, phi: Floats) -> Floats:
    """One seed of one rule: (4, T)."""
    from annotate import deploying
    from learner.tasks.absorbing import absorb_waiting

    product.begin_anew()
    trace, answers = np.zeros((4, len(stream.coins))), []
    with patch.object(deploying, "drawn_rule", lambda *_: (rule, 1.0)):
        for t, rows in enumerate(stream.candidates):
            shown, judged = ask_once(product, rows, float(stream.coins[t]))
            trace[:, t] = measured(product.pool.utility[rows], product.pool.utility[shown])
            if judged:
                answers.append((shown, judged))
                absorb_waiting(product.project.pk)
    check_digest(product, answers)
    return trace


def ask_once(product: Product, rows: Rows, coin: float) -> tuple[list[int], str]:
    """Ask, and answer as a user of these utilities would: the rows shown (left, right), and which was chosen."""
    pool = product.pool
    texts = [pool.texts[row] for row in rows]
    told = product.post("deployment", {"prompt": pool.prompts[pool.prompt[rows[0]]], "responses": texts})
    shown = [int(rows[one["index"]]) for one in told["responses"]]
    if told["kind"] == "single":
        return shown, ""
    left, right = pool.utility[shown]
    side = "left" if coin < expit(left - right) else "right"
    product.post(f"deployment/{told['id']}/judgment", {"answer": side})
    return shown, side


def measured(utility: Floats, shown: Floats) -> tuple[float, float, float, bool]:
    """Regret, reward, win rate of what was shown, and whether a question was asked."""
    mean = float(shown.mean())
    wins = float(expit(shown[:, None] - utility).mean())
    return float(utility.max()) - mean, mean - float(utility.mean()), wins, len(shown) == 2


def check_digest(product: Product, answers: list[tuple[list[int], str]]) -> None:
    """The same answers through the library alone give the state that the product has."""
    from annotate.models import Estimator
    from learner.estimators import state_digest
    from learner.log import Entry, LogReader
    from learner.tasks.embedding import load_features

    reader = LogReader(load_features(product.project.feature_versions.get()))
    for step, (shown, side) in enumerate(answers, 1):
        left, right = (int(product.rows[row]) for row in shown)
        chosen = left if side == "left" else right
        reader.read(
            Entry(
                step,
                min(left, right),
                max(left, right),
                "first" if chosen == min(left, right) else "second",
                "deployment",
            )
        )
    stored = Estimator.objects.get(project=product.project, role="production")
    if stored.step != len(answers) or stored.digest != state_digest(reader.state("production")):
        raise LearnerError(f"the product's state after {len(answers)} answers is not the library's")


def alone(
    pool: Pool, phi: Floats, streams: list[Any], args: argparse.Namespace, parts: list[tuple[str, int]]
) -> dict[tuple[str, int], Floats]:
    """Some rules and streams on a site of this process's own."""
    with private_site():
        return trace_parts(pool, phi, streams, args, parts)


def run(
    pool: Pool, phi: Floats, streams: list[Any], rules: list[str], args: argparse.Namespace
) -> dict[str, Floats]:
    """Every rule and stream; with ``--processes``, each with a site of its own in a process of its own."""
    if args.processes < 2:
        with private_site():
            return drive(pool, phi, streams, rules, args)
    parts = [(rule, i) for rule in rules for i in range(len(streams))]
    spawn = get_context("spawn")
    with ProcessPoolExecutor(args.processes, mp_context=spawn) as workers:
        ask = partial(alone, pool, phi, streams, args)
        found = list(workers.map(ask, [parts[i :: args.processes] for i in range(args.processes)]))
    traces = {key: trace for part in found for key, trace in part.items()}
    return {rule: np.stack([traces[rule, i] for i in range(len(streams))]) for rule in rules}
