"""Several real workers: shards shared and taken over, work handed back, one log however many learn from it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from learner import store
from learner.encoders import HuggingFaceEncoder
from tests.faults.installation import Installation, installation
from tests.faults.workers import asked_to_end, ended, number, told, until, work
from tests.learner.test_encoders import small_llama

pytestmark = pytest.mark.slow

POOL = """
from annotate.models import Project
from tests.conftest import fill
project = Project.objects.create(name="Many", slug="many", encoder="models/tiny", dimensions=16,
    encoder_options={"pooling": "last", "dtype": "float32", "max_length": 128})
fill(project, 192, 8)
for response in project.responses.all():
    response.text = f"answer {response.pk} " + "why is the sky blue light scatters " * (3 + response.pk % 20)
    response.save()
"""
JUDGED = """
import random
from annotate import judging, serving
from annotate.models import Project, User
project, rng = Project.objects.get(slug="faults"), random.Random({seed})
for i in range({count}):
    user = User.objects.get(username=f"annotator-{{i % 4}}")
    for lease in serving.leases_for(project, user, 1):
        judging.record(user, lease.pk, judging.Submission(rng.choice(["left", "right"])))
"""
DONE = "SELECT count(*) FROM annotate_embeddingshard WHERE finished_at IS NOT NULL"
OPEN = "SELECT count(*) FROM annotate_embeddingshard WHERE finished_at IS NULL"
LIVE = "SELECT count(*) FROM annotate_featureversion WHERE state = 'live' AND embedded > 0"
WAITING = "SELECT count(*) FROM annotate_judgment WHERE absorbed_step IS NULL AND replaced_at IS NULL"
TEXTS = """SELECT prompt.text, response.text FROM annotate_response response
           JOIN annotate_prompt prompt ON prompt.id = response.prompt_id
           WHERE response.position % 97 = 0 ORDER BY response.position"""


def test_workers_share_a_pool_take_over_from_the_dead_and_hand_back_when_asked(tmp_path: Path) -> None:
    with installation(tmp_path / "data") as site:
        model = small_llama(
            tmp_path / "data" / "models" / "tiny", hidden_size=128, intermediate_size=384, num_hidden_layers=2
        )
        site.python(POOL)
        first, second = work(site, "embed"), work(site, "embed")
        with ended(first, second):
            until(lambda: number(site, DONE) >= 1, 120, "no shard was embedded")
            first.kill()  # kill -9, with a shard in hand
            assert asked_to_end(second) == 0
            assert number(site, OPEN) > 0, "the pool was done before anybody was killed"
            assert number(site, "SELECT count(*) FROM annotate_heartbeat") <= 1  # one ended in peace
        third = work(site, "embed")
        with ended(third):
            until(lambda: number(site, LIVE) == 1, 240, "nobody took over")
        raw = store.load_all(tmp_path / "data" / "projects" / "1" / "features" / "1" / "raw", 1536)
        encoder = HuggingFaceEncoder(model, "last", 128, "float32")
        alone = encoder.encode([encoder.compose(*texts) for texts in told(site, TEXTS)])
        np.testing.assert_allclose(raw[::97], alone, atol=1e-4)


def judged(site: Installation, count: int, seed: int) -> None:
    site.python(JUDGED.format(count=count, seed=seed))


def test_two_learn_workers_on_one_project_absorb_each_judgment_once_and_replay_to_the_same_bits(
    tmp_path: Path,
) -> None:
    with installation(tmp_path / "data") as site:
        site.seed(people=4)
        workers = [work(site, "learn"), work(site, "learn"), work(site, "embed,jobs")]
        with ended(*workers):
            until(lambda: number(site, LIVE) == 1, 120, "not embedded")
            judged(site, 60, 0)
            workers[0].kill()
            judged(site, 60, 1)
            until(lambda: not number(site, WAITING), 120, "a judgment was not learned from")
            steps = [step for (step,) in told(site, "SELECT absorbed_step FROM annotate_judgment")]
            assert sorted(steps) == list(range(1, len(steps) + 1))
            replayed: subprocess.CompletedProcess[str] = site.manage("replay", "faults")
            assert "all the same bits" in replayed.stdout, replayed.stdout + replayed.stderr


def test_a_pool_too_large_for_one_machine_is_scored_by_a_chord_of_workers(tmp_path: Path) -> None:
    with installation(tmp_path / "data", SCORES_MEMORY_MB="0.01") as site:
        site.seed(people=4)
        workers = [work(site, "learn"), work(site, "embed,jobs"), work(site, "embed,jobs")]
        with ended(*workers):
            chosen = "SELECT count(*) FROM annotate_comparison WHERE arm = 'active' AND score > 0"
            until(lambda: number(site, chosen) > 0, 180, "the chord's callback drew no pair")
            judged(site, 30, 0)
            until(lambda: not number(site, WAITING), 120, "a judgment was not learned from")
            before = number(site, chosen)
            judged(site, 30, 1)
            until(lambda: number(site, chosen) > before, 180, "no second round")
