"""A user's request: which of its candidates to show, by the rule that was drawn for it."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import numpy as np
import numpy.typing as npt
from django.db import transaction
from django.utils import timezone

from annotate import deploying, draws, statements
from annotate.models import Arm, Comparison, Deployment, DeploymentRequest, Response
from learner.selection import DEPLOYMENT_RULES, State
from learner.tasks import scoring
from learner.tasks.appending import store_soon
from learner.tasks.embedding import load_features
from learner.tasks.following import Follower

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]


def answer_requests(project_id: int, requests: list[DeploymentRequest]) -> None:
    """Answer the waiting requests of a project: one pass of the encoder, one commit, then the new features."""
    if not requests:
        return
    try:
        held = scoring.serving(project_id, learned=False)
        responses = candidates_of(requests)
        held.encoding = 0.0
        phi, raw = features_by_response(held, list(responses.values()))
        if raw:  # encoding took a while
            scoring.check_still_live(held)
        settings = deploying.settings_of(held.project)
        with transaction.atomic():
            for request in requests:
                request.project = held.project
                answer(request, settings, held, responses, phi)
    except Exception as error:
        fail(requests, *scoring.said(project_id, error))
        return
    keep_features(held, responses, phi, raw)


def fail(requests: list[DeploymentRequest], code: str, message: str) -> None:
    waiting = DeploymentRequest.objects.filter(
        pk__in=[request.pk for request in requests], state=DeploymentRequest.State.WAITING
    )
    waiting.update(
        state=DeploymentRequest.State.FAILED, problem=code, message=message[:500], answered_at=timezone.now()
    )


def candidates_of(requests: list[DeploymentRequest]) -> dict[int, Response]:
    """Every candidate with its prompt, by id."""
    keys = {key for request in requests for key in request.candidates}
    return {one.pk: one for one in statements.candidates(keys)}


def features_by_response(
    held: Follower, responses: list[Response]
) -> tuple[dict[int, Floats], dict[int, npt.NDArray[np.float32]]]:
    """Features by response id: stored ones as they are stored, the others encoded now (whose raw rows come too)."""
    stored = [one for one in responses if one.position < held.version.embedded]
    new = [one for one in responses if one.position >= held.version.embedded]
    phi: dict[int, Floats] = {}
    if stored:
        rows = load_features(held.version, [one.position for one in stored])
        phi |= {one.pk: row.astype(np.float64) for one, row in zip(stored, rows, strict=True)}
    texts = [(one.prompt.text, one.text) for one in new]
    if not texts:
        return phi, {}
    raw = scoring.encoded(held, texts)
    made = scoring.features_of(held, texts, raw)
    phi |= {one.pk: row for one, row in zip(new, made, strict=True)}
    return phi, {one.pk: row for one, row in zip(new, raw, strict=True)}


def answer(
    request: DeploymentRequest,
    settings: Deployment,
    held: Follower,
    responses: dict[int, Response],
    features: dict[int, Floats],
) -> None:
    """Choose by the request's rule, and write what was chosen and what was known."""
    keys = list(dict.fromkeys(key for key in request.candidates if key in responses))
    if not keys:
        raise scoring.Refusal("failed", "The candidates of a request were deleted.")
    phi = np.stack([features[key] for key in keys])
    first, second, probability = choose(request, settings, held, phi)
    now = timezone.now()
    request.state, request.answered_at = DeploymentRequest.State.ANSWERED, now
    request.rewards, request.measured = measure(held, phi, first, second)
    request.estimator_step = held.step
    # In the order given, whichever is the better: sides are known while answers are still being written.
    a, b = (responses[keys[i]] for i in sorted((first, second)))
    if draws.uniform(request.project.seed, "deployment side", request.pk) < 0.5:
        a, b = b, a
    request.left, request.right = a, None if first == second else b
    if first == second:
        request.comparison = None
    else:
        z = phi[keys.index(min(a.pk, b.pk))] - phi[keys.index(max(a.pk, b.pk))]
        request.comparison = comparison_of(request, held, (a, b), z, probability)
    DeploymentRequest.objects.filter(pk=request.pk, state=DeploymentRequest.State.WAITING).update(
        **{name: getattr(request, name) for name in ANSWERED}
    )


ANSWERED = (
    "state", "answered_at", "rewards", "measured", "estimator_step", "left", "right", "comparison",
)  # fmt: skip


def choose(
    request: DeploymentRequest, settings: Deployment, held: Follower, phi: Floats
) -> tuple[int, int, float]:
    """The two candidates to show, the better first, and the pair's probability; equal: one answer, nothing asked."""
    bank = held.bank
    best = int(np.argmax(phi @ bank.theta))
    if not settings.explores or len(phi) < 2:
        return best, best, 1.0
    digest = hashlib.sha256(f"{request.project.seed}/deployment pair/{request.pk}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16], "big"))
    state = State(
        np.asarray(bank.theta, np.float64), np.asarray(bank.covariance, np.float64), settings.optimism
    )
    first, second = DEPLOYMENT_RULES[request.rule](state, phi, rng)
    if first == second or not np.any(phi[first] - phi[second]):  # alike to the model: nothing to learn
        return first, first, request.probability
    uniform = 2.0 / (len(phi) * (len(phi) - 1)) if request.rule == "random" else 1.0
    return first, second, request.probability * uniform


def measure(held: Follower, phi: Floats, first: int, second: int) -> tuple[list[list[float]], dict[str, Any]]:
    """Rewards of all candidates above their mean, and reward, regret and width of what is shown, with intervals."""
    bank = held.bank
    beta = bank.radius(scoring.CONFIDENCE)
    centred = phi - phi.mean(axis=0)
    values, widths = bank.reward(centred), bank.width(centred)
    shown = (phi[first] + phi[second]) / 2
    best = phi[int(np.argmax(values))]
    lines = np.stack([shown - phi.mean(axis=0), best - shown])
    (reward, regret), reach = bank.reward(lines).tolist(), (beta * bank.width(lines)).tolist()
    measured = {
        "step": held.step,
        "reward": [reward, reward - reach[0], reward + reach[0]],
        "regret": [regret, regret - reach[1], regret + reach[1]],
        "width": float(widths.mean()),
        "encoding": round(held.encoding, 6),
    }
    table = [[v, v - beta * w, v + beta * w] for v, w in zip(values.tolist(), widths.tolist(), strict=True)]
    return table, measured


def comparison_of(
    request: DeploymentRequest,
    held: Follower,
    pair: tuple[Response, Response],
    z: Floats,
    probability: float,
) -> Comparison:
    """The pair as a comparison of the deployment arm: taken by this user, so annotators are never given it."""
    first, second = sorted(pair, key=lambda response: response.pk)
    width = float(held.bank.width(z[None])[0])
    return Comparison.objects.create(
        project_id=request.project_id,
        prompt=first.prompt,
        first=first,
        second=second,
        arm=Arm.DEPLOYMENT,
        rule=request.rule,
        probability=probability,
        score=width,
        width=width,
        predicted=float(held.bank.predict(z[None])[0]),
        estimator_step=held.step,
        wanted=1,
        taken=1,
    )


def keep_features(
    held: Follower,
    responses: dict[int, Response],
    phi: dict[int, Floats],
    raw: dict[int, npt.NDArray[np.float32]],
) -> None:
    """Have the features that were made stored, so that the judgment can be learned from when it comes."""
    store_soon(held.version, [(responses[key], raw[key], phi[key]) for key in raw])
