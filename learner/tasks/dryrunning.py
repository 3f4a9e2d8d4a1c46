"""Dry runs: every rule spends the same budget on a project's own pool, answered by votes or utilities it has already.

Nothing of the project changes. A run that was killed begins anew; its seeds give the same numbers again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from annotate.models import FeatureVersion, Job, Judgment, Project, Response
from annotate.outcomes import COMPARED, TRIED, TRYING, says
from learner.dryrun import (
    Outcome,
    Recommendation,
    Run,
    Settings,
    Task,
    Votes,
    collect,
    compare,
    drawn_answers,
    one_vote_a_pair,
    recommend,
    within_prompt,
)
from learner.errors import LearnerError
from learner.log import LABELS
from learner.tasks.embedding import load_features
from learner.tasks.findings import finite, limits
from learner.tasks.jobs import report

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
FOLDS = 4
MOST_RESPONSES = 44
MOST_PAIRS = 150_000
FEWEST_TESTS, FEWEST_PAIRS = 20, 20
CHECKPOINTS = (10, 15, 25, 35, 50, 70, 100, 140, 200, 280, 400, 560, 800, 1200, 1600, 2000)


class Cancelled(Exception):
    """Somebody cancelled the job, or another worker has it."""


@dataclass(frozen=True)
class Pool:
    """The part of the project's pool that a dry run works on: rows of the features, small enough for a job."""

    features: Array
    prompt: Rows
    utility: Array
    votes: Votes | None
    all_prompts: int


def compare_rules(job: Job) -> str:
    """Run every rule and seed; leaves curves, labels saved and a recommendation in the job's result."""
    project = job.project
    if project is None:
        raise LearnerError("A dry run belongs to a project.")
    given = job.arguments
    rules = ["random", *[rule for rule in given["rules"] if rule != "random"]]
    pool = pool_of(project, given["labels"])
    tasks = [task_of(pool, seed) for seed in range(int(given["seeds"]))]
    budget = min(int(given["budget"]), *(len(task.first) for task in tasks))
    counts = tuple(sorted({n for n in CHECKPOINTS if n < budget} | {budget}))
    job.total = budget * len(rules) * len(tasks)
    try:
        runs = all_runs(job, rules, tasks, Settings(budget, counts))
    except Cancelled:
        return says(TRIED, n=job.done, total=job.total)
    clusters = tasks[0].test_prompt
    outcomes = compare(runs, counts, clusters, set(counts))
    advice = recommend(runs, counts, clusters)
    job.result = result_of(pool, tasks, outcomes, advice)
    report(job, job.total)
    return says(COMPARED, rules=len(rules), seeds=len(tasks), n=budget)


def all_runs(job: Job, rules: list[str], tasks: list[Task], settings: Settings) -> dict[str, list[Run]]:
    done = 0
    runs: dict[str, list[Run]] = {}
    for rule in rules:
        for seed, task in enumerate(tasks):
            say = says(TRYING, rule=rule, n=seed + 1, total=len(tasks))

            def watch(say: str = say) -> None:
                nonlocal done
                done += 1
                if not report(job, done, say):
                    raise Cancelled

            runs.setdefault(rule, []).append(collect(task, rule, seed, settings, watch))
    return runs


def pool_of(project: Project, labels: str) -> Pool:
    """Features, prompts and answers of the training and evaluation prompts alike: all of it is data now."""
    version = FeatureVersion.objects.filter(project=project, state=FeatureVersion.State.LIVE).first()
    if version is None or not version.embedded:
        raise LearnerError("The responses are not embedded yet; wait for that job, then try again.")
    rows = Response.objects.filter(
        project=project, position__lt=version.embedded, prompt__is_deployment=False
    )
    table = list(rows.order_by("position").values_list("position", "prompt_id", "utility"))
    position = np.array([row[0] for row in table], dtype=np.int64)
    prompt = np.array([row[1] for row in table], dtype=np.int64)
    utility = np.array([np.nan if row[2] is None else row[2] for row in table])
    votes = votes_of(project, position) if labels == "votes" else None
    usable = np.isfinite(utility) if votes is None else with_votes(votes, len(position))
    kept = thinned(prompt, usable)
    if votes is not None:
        votes = moved(votes, kept, len(position))
    features = load_features(version)[position[kept]].astype(np.float64)
    return Pool(features, prompt[kept], utility[kept], votes, len(np.unique(prompt)))


def votes_of(project: Project, position: Rows) -> Votes:
    """Current judgments of people, here or imported; "both bad" prefers neither and is left out."""
    at = {int(where): i for i, where in enumerate(position)}
    rows = Judgment.objects.filter(project=project, replaced_at=None, answer__in=LABELS).order_by("id")
    rows = rows.exclude(comparison__arm="deployment")
    fields = ("comparison__first__position", "comparison__second__position", "answer")
    known = [
        (at[a], at[b], LABELS[y]) for a, b, y in rows.values_list(*fields).iterator() if a in at and b in at
    ]
    if not known:
        raise LearnerError("There are no judgments to learn from yet.")
    first, second, answer = (np.array(column) for column in zip(*known, strict=True))
    turned = first > second
    answer = np.where(turned, 1.0 - answer, answer)
    return Votes(np.minimum(first, second), np.maximum(first, second), answer.astype(np.float64))


def with_votes(votes: Votes, count: int) -> Mask:
    usable = np.zeros(count, dtype=bool)
    usable[votes.first] = usable[votes.second] = True
    return usable


def thinned(prompt: Rows, usable: Mask) -> Rows:
    """Rows of prompts drawn at random, at most 44 responses each, until there are 150,000 pairs."""
    rng = np.random.default_rng(0)
    rows = rng.permutation(np.flatnonzero(usable))
    rows = rows[np.argsort(prompt[rows], kind="stable")]
    numbers, starts, counts = np.unique(prompt[rows], return_index=True, return_counts=True)
    kept: list[int] = []
    pairs = 0
    for i in rng.permutation(len(numbers)).tolist():
        size = min(int(counts[i]), MOST_RESPONSES)
        if size < 2:
            continue
        kept += rows[starts[i] : starts[i] + size].tolist()
        pairs += size * (size - 1) // 2
        if pairs >= MOST_PAIRS:
            break
    if not kept:
        raise LearnerError("No prompt has two responses with answers or utilities.")
    return np.sort(np.array(kept, dtype=np.int64))


def moved(votes: Votes, kept: Rows, count: int) -> Votes:
    """The votes on kept rows, in terms of their new places."""
    place = np.full(count, -1)
    place[kept] = np.arange(len(kept))
    both = (place[votes.first] >= 0) & (place[votes.second] >= 0)
    return Votes(place[votes.first[both]], place[votes.second[both]], votes.answer[both])


def task_of(pool: Pool, seed: int) -> Task:
    """A quarter of the prompts is held out, the same for every seed; the answers to the others are the seed's."""
    fixed, rng = np.random.default_rng(1), np.random.default_rng([seed, 4])
    prompts, row = np.unique(pool.prompt, return_inverse=True)
    fold = fixed.permutation(len(prompts)) % FOLDS
    held = (fold == 0)[row]
    if pool.votes is not None:
        mine = held[pool.votes.first]
        test = pool.votes.first[mine], pool.votes.second[mine], pool.votes.answer[mine]
        first, second, answer = one_vote_a_pair(pool.votes, ~held, rng)
    else:
        test = drawn_answers(pool.prompt, pool.utility, held, fixed)
        first, second = within_prompt(pool.prompt, ~held)
        chance = expit(pool.utility[first] - pool.utility[second])
        answer = (rng.random(len(first)) < chance).astype(np.float64)
    if len(test[0]) < FEWEST_TESTS or len(first) < FEWEST_PAIRS:
        raise LearnerError(
            f"Too little to compare rules on: {len(first)} pairs to ask about and {len(test[0])} held-out judgments; "
            f"at least {FEWEST_PAIRS} and {FEWEST_TESTS} are needed."
        )
    z = pool.features[test[0]] - pool.features[test[1]]
    held_prompt = pool.prompt[test[0]]
    return Task(
        pool.features, pool.prompt, first, second, answer, z, test[2], held_prompt, ~held, pool.votes is None
    )


def result_of(
    pool: Pool, tasks: list[Task], outcomes: dict[str, Outcome], advice: Recommendation
) -> dict[str, Any]:
    """What the page shows: numbers only, in words that the site translates."""
    return {
        "rules": {
            rule: {
                "counts": one.counts,
                "log_loss": [limits(each) for each in one.log_loss],
                "accuracy": [limits(each) for each in one.accuracy],
                "gain": [limits(each) for each in one.gain],
                "saved": [[*limits(each.ratio), each.censored] for each in one.saved],
                "area": finite(one.area),
            }
            for rule, one in outcomes.items()
        },
        "advice": {
            "rule": advice.rule, "best": advice.best, "gain": limits(advice.gain),
            "rivals": list(advice.rivals), "worse": list(advice.worse),
        },
        "pairs": len(tasks[0].first),
        "held_out": len(tasks[0].test_answer),
        "held_out_prompts": len(np.unique(tasks[0].test_prompt)),
        "prompts": len(np.unique(pool.prompt)),
        "all_prompts": pool.all_prompts,
        "seeds": len(tasks),
    }  # fmt: skip
