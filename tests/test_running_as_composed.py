"""The commands of compose.yaml, as its containers run them, on a private PostgreSQL and Redis; and the way back."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.composing import HOST, Composed, composed, image_health, instruction, wait
from tests.faults.servers import Postgres, postgres, postgres_folder, redis

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed"),
    pytest.mark.skipif(postgres_folder() is None, reason="PostgreSQL's server is not installed"),
]
WORKERS = ("learn", "embed", "jobs")
DIGESTS = """
from annotate.models import Estimator
print(sorted(Estimator.objects.values_list("role", "step", "digest")))
"""
STATE = """
import json
from annotate.models import Heartbeat, Judgment, FeatureVersion
print(json.dumps({"queues": sorted(q for row in Heartbeat.objects.all() for q in row.queues.split(",")),
                  "live": FeatureVersion.objects.filter(state="live").count(),
                  "waiting": Judgment.objects.filter(absorbed_step=None).count()}))
"""


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    programs = postgres_folder()
    assert programs is not None
    with postgres(programs) as server:
        yield server


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, database: Postgres) -> Iterator[Composed]:
    with redis() as broker:
        site = composed(tmp_path_factory.mktemp("composed"), database.url, broker.port)
        collected = re.search(r"SECRET_KEY=(\S+).*python (manage.py collectstatic \S+)", instruction("RUN"))
        assert collected
        done = site.run(
            ["python", *collected[2].split()],
            SECRET_KEY=collected[1],
            DATABASE_URL=f"sqlite:///{site.folder}/none",
        )
        assert done.returncode == 0, done.stderr
        migrate = site.services["migrate"]
        asked = {n: str(v or "") for n, v in migrate["environment"].items() if n.startswith("ADMIN_")}
        prepared = site.run(migrate["command"], **asked)
        assert prepared.returncode == 0, prepared.stderr
        assert "admin@example.org" in prepared.stdout
        session = site.site.seed(people=1)[0]
        (site.folder / "session").write_text(session)
        with site.started("web", *WORKERS):
            wait(lambda: site.ask("/health/ready/")[0] == 200, 60, "the site did not become ready")
            yield site


def state(site: Composed) -> dict[str, object]:
    return dict(json.loads(site.site.python(STATE).strip().splitlines()[-1]))


def test_every_service_comes_up_and_says_so(running: Composed) -> None:
    wait(lambda: state(running)["queues"] == ["embed", "jobs", "learn", "score"], 60, "a queue has no worker")
    told = json.loads(running.ask("/health/ready/")[1])
    assert (told["database"], told["broker"], told["workers"]) == (True, True, 3)
    healthy = running.run(image_health())
    assert healthy.returncode == 0, healthy.stderr
    for name in WORKERS[:1]:  # the same command for each
        test = running.services[name]["healthcheck"]["test"]
        assert test[0] == "CMD"
        assert running.run(test[1:]).returncode == 0


def test_static_files_have_hashed_names_that_may_be_kept_for_ever(running: Composed) -> None:
    page = running.ask("/accounts/login/")[1]
    sheet = re.search(r'href="(/static/css/[\w.-]+\.[0-9a-f]{12}\.css)"', page)
    assert sheet, page[:2000]
    headers = {"Host": HOST, "X-Forwarded-Proto": "https"}
    request = urllib.request.Request(running.url + sheet[1], headers=headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        assert "immutable" in response.headers["Cache-Control"]
    assert "Traceback" not in (running.folder / "web.log").read_text()


def test_a_request_can_be_followed_from_the_proxy_into_the_workers_log(running: Composed) -> None:
    session = (running.folder / "session").read_text()
    wait(lambda: state(running)["live"] == 1, 60, "not embedded")
    assert running.answer_one(session, X_Request_ID="from-the-proxy-1")
    web = [line for line in running.lines("web") if line.get("request_id") == "from-the-proxy-1"]
    assert {line["route"] for line in web} == {"compare", "judge"}

    def followed() -> bool:
        return any(
            (line.get("request_id"), line.get("task")) == ("from-the-proxy-1", "absorb")
            for line in running.lines("learn")
        )

    wait(followed, 30, "no line of the worker carries the request's id")


def test_one_process_answers_metrics_for_both_and_only_to_who_has_the_token(running: Composed) -> None:
    assert running.ask("/metrics")[0] == 403
    counted = re.compile(r'touchstone_requests_total\{method="GET",route="version",status="200"\} (\d+)')
    for _ in range(30):
        assert running.ask("/version/")[0] == 200
    for _ in range(6):  # whichever process answers
        found = counted.search(running.ask("/metrics", Authorization="Bearer a-long-token")[1])
        assert found
        assert int(found[1]) == 30


def test_the_doctor_finds_nothing_but_the_mail(running: Composed) -> None:
    wait(lambda: len(state(running)["queues"]) == 4, 60, "a queue has no worker")  # type: ignore[arg-type]
    told = running.run(["python", "manage.py", "doctor"])
    looks = [line for line in told.stdout.splitlines() if line.startswith("LOOK")]
    assert [line for line in looks if "e-mail" not in line] == [], told.stdout
    assert "EMAIL_URL" in looks[0]
    assert "Traceback" not in told.stderr


def test_a_dump_restored_on_an_empty_machine_replays_to_the_same_digests(
    running: Composed, database: Postgres, tmp_path: Path
) -> None:
    """The commands of docs/deployment.md, word by word, in a shell; the site goes on meanwhile."""
    session = (running.folder / "session").read_text()
    wait(lambda: state(running)["live"] == 1, 60, "not embedded")
    assert sum(running.answer_one(session) for _ in range(20)) == 20
    wait(lambda: state(running)["waiting"] == 0, 60, "a judgment was not learned from")
    new = composed(tmp_path / "new", database.url.rpartition("/")[0] + "/touchstone", 1)
    digests = running.site.python(DIGESTS)
    shell(documented("pg_dump"), running, tmp_path, database)
    shell(documented("createdb").replace("PROJECT", "faults"), new, tmp_path, database)
    assert new.site.python(DIGESTS) == digests != "[]\n"
    replayed = new.site.manage("replay", "faults")
    assert "all the same bits" in replayed.stdout, replayed.stdout + replayed.stderr


def documented(first: str) -> str:
    """The block of commands that begins so."""
    text = (Path(__file__).resolve().parent.parent / "docs" / "deployment.md").read_text()
    found = re.search(rf"```\n({first} .*?)```", text, re.DOTALL)
    assert found
    return found[1]


def shell(commands: str, site: Composed, folder: Path, database: Postgres) -> None:
    """As an operator types them, with the client programs of the server's version."""
    path = f"{database.programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    where = {"PGHOST": "127.0.0.1", "PGPORT": str(database.port), "PGUSER": "postgres", "PATH": path}
    commands = commands.replace("touchstone.dump", f"{folder}/touchstone.dump")
    commands = commands.replace("touchstone-files", f"{folder}/touchstone-files")
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        ["sh", "-euc", commands], cwd=root, env=site.site.environment | where, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
