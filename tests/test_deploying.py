"""What a deployment is made of: safe settings, files that agree with each other, a backup that comes back."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from django.core.management import load_command_class

from annotate import checks, logs
from annotate.celery import app
from tests import composing
from tests.composing import compose, dockerfile, image_command, image_environment, image_health, instruction
from tests.faults.installation import installation

ROOT = Path(__file__).resolve().parent.parent


def test_production_refuses_debug_a_weak_key_and_any_host(settings: Any) -> None:
    settings.PRODUCTION, settings.DEBUG, settings.SECRET_KEY, settings.ALLOWED_HOSTS = (
        True,
        True,
        "changeme" * 8,
        ["*"],
    )
    found = [error.id for error in checks.production(None)]
    assert found == ["touchstone.E001", "touchstone.E002", "touchstone.E003"]
    settings.DEBUG, settings.SECRET_KEY, settings.ALLOWED_HOSTS = False, "k3" * 25, ["touchstone.example.org"]
    assert checks.production(None) == []


def test_a_production_command_ends_with_the_reason(tmp_path: Path) -> None:
    unsafe = {"PRODUCTION": "1", "SECRET_KEY": "x" * 12, "TOUCHSTONE_DATA": str(tmp_path)}
    command = [sys.executable, "manage.py", "check"]
    told = subprocess.run(command, cwd=ROOT, env=os.environ | unsafe, capture_output=True, text=True)
    assert told.returncode != 0
    assert "SECRET_KEY is short" in told.stderr


OF_THE_HUB = {"HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN"}  # huggingface_hub reads them itself
OF_COMPOSE = {"POSTGRES_PASSWORD", "TORCH_INDEX", "WEB_PORT"}
OF_PYTHON = {"PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
OURS = ("web", "learn", "embed", "jobs")


def known_names() -> set[str]:
    """What the settings and the first account read from the environment."""
    code = (ROOT / "annotate" / "settings.py").read_text() + (ROOT / "annotate" / "accounts.py").read_text()
    return set(re.findall(r'(?:env|env\.\w+)\("([A-Z_]+)"', code))


def test_every_variable_is_in_the_example_and_reaches_what_reads_it() -> None:
    asked = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "compose.yaml").read_text()))
    given = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert asked == given
    assert asked - OF_COMPOSE - OF_THE_HUB <= known_names()
    passed = {name for service in OURS for name in compose()["services"][service]["environment"]}
    assert passed - OF_THE_HUB <= known_names()
    assert set(image_environment()) - OF_THE_HUB - OF_PYTHON <= known_names()


def test_what_must_be_given_is_demanded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET_KEY", "POSTGRES_PASSWORD", "ALLOWED_HOSTS"):
        monkeypatch.setattr(composing, "GIVEN", composing.GIVEN | {name: ""})
        with pytest.raises(AssertionError, match=f"{name} is demanded"):
            compose()
        monkeypatch.undo()


def test_every_service_has_a_health_check_and_what_it_keeps_is_on_a_volume() -> None:
    whole = compose()
    services = whole["services"]
    assert set(services) == {"migrate", *OURS, "postgres", "redis"}
    for name in (*OURS[1:], "postgres", "redis"):
        assert services[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert "healthcheck" not in services["web"], "the image's own"
    assert image_health()[0] == "python"
    for name in OURS:
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
        assert services[name]["volumes"] == ["files:/data"]
    assert set(whole["volumes"]) == {"files", "postgres"}
    assert services["migrate"]["restart"] == "no"
    queues = [services[name]["command"][services[name]["command"].index("--queues") + 1] for name in OURS[1:]]
    assert sorted(",".join(queues).split(",")) == ["embed", "jobs", "learn", "score"]


def test_the_gpu_file_changes_a_service_that_there_is() -> None:
    added = yaml.safe_load((ROOT / "compose.cuda.yaml").read_text())
    assert set(added) == {"services"}
    assert set(added["services"]) <= set(OURS)


def test_images_are_pinned_and_nothing_runs_as_root() -> None:
    bases = [given for name, given in dockerfile() if name == "FROM"]
    assert len(bases) == 2  # what builds stays behind
    assert all(re.fullmatch(r"python:\$\{PYTHON\}-slim-\w+( AS build)?", base) for base in bases)
    images = [compose()["services"][name]["image"] for name in ("postgres", "redis")]
    assert all(re.search(r":\d+", image) for image in images)
    names = [name for name, _ in dockerfile()]
    assert instruction("USER") == "10001:10001"  # by number: a cluster can tell that it is not root
    assert names.index("USER") > max(i for i, name in enumerate(names) if name in ("RUN", "COPY"))
    assert names.index("USER") < names.index("CMD")
    assert {given for name, given in dockerfile() if name == "ARG"} == {"PYTHON=3.11", "TORCH_INDEX="}


def test_every_command_of_compose_is_one_that_there_is() -> None:
    services = compose()["services"]
    commands = [image_command(), *(services[name]["command"] for name in ("migrate", *OURS[1:]))]
    commands += [services[name]["healthcheck"]["test"][1:] for name in OURS[1:]]
    for python, program, name, *arguments in commands:
        assert (python, program) == ("python", "manage.py")
        command = load_command_class("annotate", name)
        command.create_parser("manage.py", name).parse_args(arguments)


def test_nothing_of_a_person_gets_into_the_image() -> None:
    left_out = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".env", "data", "tests"} <= set(left_out)


def test_errors_go_to_sentry_without_anything_about_people(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setitem(sys.modules, "sentry_sdk", SimpleNamespace(init=lambda **given: told.append(given)))
    logs.report_errors("https://key@sentry.example.org/1")
    (given,) = told
    assert given["dsn"] == "https://key@sentry.example.org/1"
    assert given["send_default_pii"] is False
    assert given["include_local_variables"] is False
    assert given["max_request_body_size"] == "never"
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)  # not installed
    logs.report_errors("https://key@sentry.example.org/1")
    assert len(told) == 1


def test_a_production_site_is_secure_by_default(tmp_path: Path) -> None:
    production = {"PRODUCTION": "1", "SECRET_KEY": "k3" * 25, "TOUCHSTONE_DATA": str(tmp_path), "DEBUG": ""}
    code = """
import json
from django.conf import settings as s
print(json.dumps([s.DEBUG, s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE, s.SECURE_SSL_REDIRECT,
    s.SECURE_HSTS_SECONDS > 0, s.SESSION_COOKIE_HTTPONLY, s.X_FRAME_OPTIONS, s.ALLOW_SIGNUP,
    s.STORAGES["staticfiles"]["BACKEND"].rpartition(".")[2], s.LOG_REQUESTS]))
"""
    command = [sys.executable, "-c", "import django; django.setup()\n" + code]
    environment = os.environ | production | {"DJANGO_SETTINGS_MODULE": "annotate.settings"}
    said = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    storage = "CompressedManifestStaticFilesStorage"
    assert json.loads(said) == [False, True, True, True, True, True, "DENY", False, storage, True]


def options_of(url: str, data: Path) -> dict[str, Any]:
    """What the database is opened with."""
    code = "import json; from django.db import connection; print(json.dumps(connection.settings_dict['OPTIONS']))"
    environment = os.environ | {"DATABASE_URL": url, "TOUCHSTONE_DATA": str(data)}
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", code]
    said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(said.stdout))


def test_postgresql_gets_a_pool_as_large_as_a_process_has_threads(tmp_path: Path) -> None:
    threads = int(image_command()[image_command().index("--threads") + 1])
    options = options_of("postgres://u@127.0.0.1:1/d", tmp_path)
    assert options["pool"]["max_size"] >= threads
    assert options["connect_timeout"] == 5


def test_what_the_databases_address_asks_for_is_kept(tmp_path: Path) -> None:
    options = options_of("postgres://u@127.0.0.1:1/d?sslmode=require&connect_timeout=3", tmp_path)
    assert (options["sslmode"], options["connect_timeout"]) == ("require", 3)
    assert options["pool"]["timeout"] == 15
    options = options_of(f"sqlite:///{tmp_path}/x.sqlite3?timeout=60", tmp_path)
    assert (options["timeout"], options["transaction_mode"]) == (60, "IMMEDIATE")


def test_every_queues_consumer_asks_for_longer_than_a_task_may_take(settings: Any) -> None:
    """RabbitMQ gives an acknowledgement half an hour unless it is asked for more."""
    longest = max(one["time_limit"] for one in settings.CELERY_TASK_ANNOTATIONS.values())
    queues = app.amqp.queues
    named = {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()}
    assert named | {settings.CELERY_TASK_DEFAULT_QUEUE, "score"} == set(queues)
    for name, queue in queues.items():
        assert (queue.exchange.name, queue.routing_key) == (name, name)
        assert queue.consumer_arguments["x-consumer-timeout"] > 1_000 * longest


def test_no_two_decisions_share_a_number() -> None:
    numbers = [path.name[:4] for path in (ROOT / "docs" / "decisions").glob("*.md")]
    assert sorted(numbers) == [f"{n:04}" for n in range(1, len(numbers) + 1)]


JUDGED = """
from annotate import judging, serving
from annotate.models import Project, User
from learner.tasks.absorbing import absorb_waiting
from learner.tasks.embedding import embed_missing
project, user = Project.objects.get(slug="faults"), User.objects.first()
embed_missing(project.pk)
for i in range(60):
    for lease in serving.leases_for(project, user, 1):
        judging.record(user, lease.pk, judging.Submission("left"))
    absorb_waiting(project.pk)
"""
DIGESTS = """
from annotate.models import Estimator
print(sorted(Estimator.objects.values_list("role", "step", "digest")))
"""


@pytest.mark.slow
def test_a_backup_restored_on_an_empty_machine_replays_to_the_same_digests(tmp_path: Path) -> None:
    with installation(tmp_path / "old") as site:
        site.seed(1)
        site.python(JUDGED)
        digests = site.python(DIGESTS)
        shutil.copytree(tmp_path / "old", tmp_path / "copied")
    with installation(tmp_path / "new") as site:
        shutil.copytree(tmp_path / "copied", tmp_path / "new", dirs_exist_ok=True)
        replayed = site.manage("replay", "faults")
        assert replayed.returncode == 0, replayed.stdout + replayed.stderr
        assert "all the same bits" in replayed.stdout
        assert site.python(DIGESTS) == digests
