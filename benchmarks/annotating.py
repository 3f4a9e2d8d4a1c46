"""An annotator's day on a whole installation: from a key press to the next pair, and many people at once.

Starts its own site (`manage.py up`: gunicorn and worker) in a folder of its own. ``screen``: a project with so many
pairs, chromium answering by keyboard while others annotate and the worker learns. ``crowd``: annotators in real
processes with delays, crashes and retries, on SQLite, and on PostgreSQL where ``--postgres`` (or
TOUCHSTONE_TEST_POSTGRES) names a server on which databases may be made.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Row = dict[str, Any]
RESPONSES = 5
PAIRS_OF_A_PROMPT = RESPONSES * (RESPONSES - 1) // 2
PART = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sizes of both parts."""
    parser.add_argument("--part", choices=("screen", "crowd", "all"), default="all")
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--keys", type=int, default=200, help="key presses that are timed")
    parser.add_argument("--others", type=int, default=4, help="people who annotate meanwhile")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the crowd")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--postgres", default=os.environ.get("TOUCHSTONE_TEST_POSTGRES", ""))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Both parts, or one."""
    figures: dict[str, float] = {}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="touchstone-annotating-") as folder:
        if args.part != "crowd":
            found = screen(Path(folder) / "screen", args)
            figures |= found
            rows += [{"figure": name, "value": value} for name, value in found.items()]
        if args.part != "screen":
            for row in crowds(Path(folder), args):
                rows.append(row)
                figures |= {f"{row['database']}_{name}": row[name] for name in FAULTS}
    return {"figures": figures, "rows": rows}


# --- The screen -------------------------------------------------------------------------------------------------


def screen(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """Key press to the next pair painted, layout shift, weight and hosts, while judgments are absorbed."""
    from tests.faults.installation import Annotator, installation

    with installation(folder) as site:
        code = f"from benchmarks.annotating import seed\nprint(seed({args.pairs}, {args.others + 1}))"
        sessions: list[str] = json.loads(patiently(site, code).replace("'", '"'))
        site.start()
        patiently(site, "from benchmarks.annotating import wait_until_embedded\nprint(wait_until_embedded())")
        stop = threading.Event()
        others = [Annotator(site, session, stop, pause=1.0) for session in sessions[1:]]
        for other in others:
            other.start()
        found = press_keys(f"http://127.0.0.1:{site.port}", sessions[0], args)
        stop.set()
        for other in others:
            other.join(30)
        code = "from benchmarks.annotating import learned\nimport json\nprint(json.dumps(learned()))"
        found |= dict(json.loads(patiently(site, code)))
    return found


def patiently(site: Any, code: str) -> str:
    """Run code inside the installation, however long it takes; the last line that it printed."""
    import subprocess
    import sys

    from tests.faults.installation import ROOT

    command = [sys.executable, str(ROOT / "manage.py"), "shell", "--no-imports", "-c", code]
    done = subprocess.run(command, env=site.environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]


def seed(pairs: int, people: int) -> list[str]:
    """A project with so many pairs, and its annotators' sessions. Runs inside the installation."""
    from django.db import transaction

    from annotate.models import Project
    from tests.faults.seeding import sign_in

    project = Project.objects.create(
        name="Faults", slug="faults", encoder="hashing", dimensions=32, overlap_share=0.0
    )
    prompts = -(-pairs // PAIRS_OF_A_PROMPT)
    with transaction.atomic():
        for start in range(0, prompts, PART):
            fill_part(project, range(start, min(start + PART, prompts)))
        project.prompt_count, project.response_count = prompts, prompts * RESPONSES
        project.largest_prompt = RESPONSES
        project.save()
    return [sign_in(project, f"annotator-{i}") for i in range(people)]


def fill_part(project: Any, numbers: range) -> None:
    """Prompts with responses of about a hundred words, with some Markdown."""
    from annotate.models import Prompt, Response

    prompts = [
        Prompt(
            project=project, position=i, text=f"Question {i}: why does the tide turn?", digest=f"{i:064x}",
            is_evaluation=i % 10 == 9, response_count=RESPONSES,
        )
        for i in numbers
    ]  # fmt: skip
    Prompt.objects.bulk_create(prompts)
    Response.objects.bulk_create(
        Response(
            project=project, prompt=prompt, position=prompt.position * RESPONSES + k, digest=f"{k:064x}",
            text=response_text(prompt.position, k), source=f"source-{k}", utility=float(k),
        )
        for prompt in prompts
        for k in range(RESPONSES)
    )  # fmt: skip


def response_text(i: int, k: int) -> str:
    """Words that depend on both numbers."""
    words = " ".join(f"word{(i * 7919 + k * 104729 + j * 31) % 997}" for j in range(60 + 15 * k))
    return f"**Answer {k}** to question {i}.\n\n{words}\n\n- one\n- two\n\n```python\nprint({i} + {k})\n```\n"


def wait_until_embedded(seconds: float = 1800.0) -> int:
    """Until the features are live and pairs are queued. Runs inside the installation."""
    from annotate.models import Comparison, FeatureVersion

    deadline = time.monotonic() + seconds
    while not FeatureVersion.objects.filter(state="live").exists() or not Comparison.objects.exists():
        assert time.monotonic() < deadline, "the responses were not embedded in time"
        time.sleep(0.5)
        if FeatureVersion.objects.filter(state="live").exists():
            from annotate.celery import ring

            ring("absorb", 1)
    return Comparison.objects.count()


def learned() -> dict[str, float]:
    """What became of the judgments. Runs inside the installation."""
    from annotate.models import Judgment

    deadline = time.monotonic() + 60
    rows = Judgment.objects.filter(replaced_at=None)
    while rows.filter(absorbed_at=None).exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    times = rows.exclude(absorbed_at=None).values_list("created_at", "absorbed_at")
    lags = sorted((absorbed - made).total_seconds() for made, absorbed in times if absorbed)
    return {
        "judgments": rows.count(),
        "not_absorbed": rows.filter(absorbed_at=None).count(),
        "influence_s_median": statistics.median(lags),
        "active": rows.filter(comparison__arm="active").count(),
    }


WATCH = """
window.shift = 0; window.keyed = [];
new PerformanceObserver(l => l.getEntries().forEach(e => window.shift += e.value))
  .observe({type: 'layout-shift', buffered: true});
new PerformanceObserver(l => l.getEntries().forEach(e => e.name === 'keydown' && window.keyed.push(e.duration)))
  .observe({type: 'event', durationThreshold: 16});
"""
SWAPS = "performance.getEntriesByName('touchstone-swap').map(e => e.duration)"
PAIR = ".pair:not([hidden])"
TEXTS = "[...document.querySelectorAll('.text, .raw')].reduce((n, e) => n + new Blob([e.innerHTML]).size, 0)"


def press_keys(base: str, session: str, args: argparse.Namespace) -> dict[str, float]:
    """Answer by keyboard as fast as the screen takes answers (no sooner than 350 ms), and read the browser's clock."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        context = browser.new_context(viewport={"width": args.width, "height": 800}, base_url=base)
        context.add_cookies([{"name": "sessionid", "value": session, "url": base}])
        page: Any = context.new_page()
        sizes: dict[str, int] = {}
        elsewhere: list[str] = []
        page.on(
            "request", lambda request: elsewhere.extend([] if request.url.startswith(base) else [request.url])
        )
        page.on("response", lambda response: sizes.setdefault(response.url, len(response.body())))
        page.add_init_script(WATCH)
        page.goto("/projects/faults/compare/")
        page.wait_for_selector(PAIR)
        page.wait_for_timeout(1000)
        weight, texts = sum(sizes.values()), page.evaluate(TEXTS)
        waits = answer_all(page, args.keys)
        swaps, keyed = page.evaluate(SWAPS), page.evaluate("window.keyed")
        shift = page.evaluate("window.shift")
        browser.close()
    return {
        "swaps": len(swaps),
        "swap_ms_median": statistics.median(swaps),
        "swap_ms_p95": statistics.quantiles(swaps, n=20)[-1],
        "swap_ms_most": max(swaps),
        "event_timing_ms_p95": statistics.quantiles(keyed, n=20)[-1] if len(keyed) > 1 else 16.0,
        "waited_for_a_pair": waits,
        "cls": shift,
        "page_bytes": weight,
        "page_bytes_without_texts": weight - texts,
        "requests_to_other_hosts": len(elsewhere),
    }


def chromium() -> str | None:
    """The system's own; None lets playwright look for the one it installed."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


def answer_all(page: Any, keys: int) -> int:
    """Press keys; how often the next pair was not there yet."""
    waits = 0
    for i in range(keys):
        if not page.locator(PAIR).count():
            waits += 1
            page.wait_for_selector(PAIR)
        lease = page.locator(PAIR).get_attribute("data-lease")
        page.wait_for_timeout(400)
        page.keyboard.press("1234"[i % 4])
        page.wait_for_selector(f'{PAIR}[data-lease="{lease}"]', state="detached")
    page.wait_for_timeout(500)
    return waits


# --- The crowd --------------------------------------------------------------------------------------------------

FAULTS = ("judgments", "beyond_k", "lost", "twice", "counters_wrong", "replay_differs")


def crowds(folder: Path, args: argparse.Namespace) -> Iterator[Row]:
    """Four people on SQLite, twenty on PostgreSQL."""
    yield {"database": "sqlite", **crowd(folder / "sqlite", 4, args.seconds, {})}
    if args.postgres:
        with database(args.postgres) as url:
            yield {
                "database": "postgresql",
                **crowd(folder / "postgresql", 20, args.seconds, {"DATABASE_URL": url}),
            }


@contextmanager
def database(server: str) -> Iterator[str]:
    """A database of this run's own on that server."""
    import psycopg

    base, name = server.rsplit("/", 1)[0], f"touchstone_annotating_{os.getpid()}"
    with psycopg.connect(f"{base}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        try:
            yield f"{base}/{name}"
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def crowd(folder: Path, people: int, seconds: float, environment: dict[str, str]) -> Row:
    """Annotators for so long while the worker learns; then every count that must be zero."""
    from tests.faults.crowd import run as run_crowd
    from tests.faults.installation import installation

    names = [f"annotator-{i}" for i in range(people)]
    with installation(folder, **environment) as site:
        site.seed(people, prompts=400, responses=5)
        patiently(site, OVERLAP)
        site.start()
        working = site.environment | {"DJANGO_SETTINGS_MODULE": "annotate.settings"}
        said = run_crowd(working, "faults", names, seconds, kill_every=2.0)
        claims = [said.pop(name) for name in ("acknowledged", "taken_back")]
        (folder / "said.json").write_text(json.dumps(claims))
        patiently(site, "from benchmarks.annotating import learned\nprint(learned())")
        checked = json.loads(patiently(site, CHECK.format(path=str(folder / "said.json"))))
        replayed = site.manage("replay", "faults")
    differs = int("all the same bits" not in replayed.stdout)
    return {"people": people, "seconds": seconds, **said, **checked, "replay_differs": differs}


OVERLAP = """
from annotate.models import Project
print(Project.objects.update(overlap=3, overlap_share=1.0, lease_seconds=5))
"""
CHECK = """
import json
from tests.faults.crowd import faults
acknowledged, taken_back = json.load(open({path!r}))
print(json.dumps(faults("faults", set(acknowledged), set(taken_back))))
"""
