"""Annotators at work on a private installation: web server, workers and database of its own, learning on.

A pool is filled and embedded, people answer over HTTP from processes of their own, and what they waited for is
timed. ``next`` is the whole page (a click on Compare, a reload); ``submit`` is the answer with its commit, and the
next pair comes in the same reply. The lag is from a judgment's creation to the commit of its step, as the database
has it. A duplicate is a judgment beyond what a pair wanted, or one person's second on it, or a step that two have.
CPU is that of web server and workers, of a database server not. Without ``--pace`` everybody answers at once again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np

from benchmarks.annotators import together
from benchmarks.private import ROOT, Site, site

Row = dict[str, Any]
MOST_PROCESSES = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument(
        "--pairs", type=int, nargs="+", default=[1_000], help="of the pool; several: one after another"
    )
    parser.add_argument(
        "--annotators", type=int, nargs="+", default=[8], help="several: one number after another"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="that are measured, after the warm-up")
    parser.add_argument("--warm-up", type=float, default=5.0)
    parser.add_argument(
        "--pace", type=float, default=0.0, help="judgments a second of all together; 0: no pause"
    )
    parser.add_argument("--responses", type=int, default=5, help="of each prompt")
    parser.add_argument(
        "--reload-every", type=int, default=5, help="answers between two loads of the whole page"
    )
    parser.add_argument(
        "--database", help="URL of a PostgreSQL; a database of its own is made there (else SQLite)"
    )
    parser.add_argument("--broker", help="URL of Redis or RabbitMQ (else a folder)")
    parser.add_argument("--web-processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--refit", action="store_true", help="again and again while they answer")
    parser.add_argument(
        "--import", dest="imports", action="store_true", help="large files into a project beside"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Every size of pool, and on it every number of annotators; the figures are those of the last."""
    rows = [row for pairs in args.pairs for row in of_pool(args, pairs)]
    return {"figures": {key: value for key, value in rows[-1].items() if key != "arms"}, "rows": rows}


def of_pool(args: argparse.Namespace, pairs: int) -> list[Row]:
    """One pool, served to each number of annotators in turn, all of them on the same installation."""
    with site(args.database, args.broker) as private:
        began = time.perf_counter()
        people = private.inside(
            "-m", "benchmarks.filling", "fill", str(pairs), str(args.responses), str(max(args.annotators))
        )
        filled = time.perf_counter() - began
        start(private, args)
        first = wait_for_pairs(private)
        rows = [measured(private, args, people["sessions"][:count]) for count in args.annotators]
    base = {"pairs": pairs, "database": "PostgreSQL" if args.database else "SQLite"}
    return [base | {"filled_s": filled, "first_pair_s": first} | row for row in rows]


def start(private: Site, args: argparse.Namespace) -> None:
    web = ["--workers", str(args.web_processes), "--threads", str(args.threads)]
    private.start("web", "serve", "--bind", f"127.0.0.1:{private.port}", *web)
    private.start("worker", "work")
    private.wait_until_it_answers()


def wait_for_pairs(private: Site, seconds: float = 3600) -> float:
    """Seconds until the pool is embedded and the learner has put the first pairs in the queue."""
    began = time.perf_counter()
    while time.perf_counter() < began + seconds:
        found = private.inside("-m", "benchmarks.filling", "ready")
        if found["embedded"] == found["of"]:
            return time.perf_counter() - began
        time.sleep(min(10.0, 0.5 + 0.05 * (time.perf_counter() - began)))
    raise SystemExit("the pool was not embedded in an hour")


def measured(private: Site, args: argparse.Namespace, sessions: list[str]) -> Row:
    """Let these people work; what they and the database saw between warm-up and end."""
    since = time.time() + (10.0 if args.refit or args.imports else 2.0) + args.warm_up
    until = since + args.seconds
    pause = len(sessions) / args.pace if args.pace else 0.0
    orders = {"host": "127.0.0.1", "port": private.port, "slug": "serving", "begin": since - args.warm_up}
    orders |= {"end": until, "pause": pause, "reload_every": args.reload_every}
    beside = meanwhile(private, args, until)
    processes = [send(orders, part) for part in split(sessions)]
    time.sleep(max(0.0, since - time.time()))
    before = private.cost()
    time.sleep(max(0.0, until - time.time()))
    after = private.cost()
    private.must_live()
    seen = together([json.loads(process.communicate()[0]) for process in processes])
    wait_until_absorbed(private, since, until)
    row = figures(
        seen, since, until, private.inside("-m", "benchmarks.filling", "stored", str(since), str(until))
    )
    spent = {name: after[name]["cpu"] - before[name]["cpu"] for name in after}
    row |= {f"cpu_{name}_ms": 1e3 * cpu / max(row["judgments"], 1) for name, cpu in spent.items()}
    jobs = json.loads(beside.communicate()[0].splitlines()[-1]) if beside else {}
    return (
        {"annotators": len(sessions)}
        | row
        | jobs
        | {"rss_mb": sum(used["rss_mb"] for used in after.values())}
    )


def meanwhile(private: Site, args: argparse.Namespace, until: float) -> subprocess.Popen[str] | None:
    """The jobs that were asked for; they are running when the measuring begins."""
    kinds = [name for name, wanted in (("refit", args.refit), ("import", args.imports)) if wanted]
    command = [sys.executable, "-m", "benchmarks.meanwhile", str(until), *kinds]
    environment = private.environment
    return (
        subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        if kinds
        else None
    )


def split(sessions: list[str]) -> list[list[str]]:
    count = min(MOST_PROCESSES, len(sessions))
    return [sessions[i::count] for i in range(count)]


def send(orders: dict[str, Any], sessions: list[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.annotators"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    json.dump({"orders": orders, "sessions": sessions}, process.stdin)
    process.stdin.close()
    process.stdin = None
    return process


def wait_until_absorbed(private: Site, since: float, until: float, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while private.inside("-m", "benchmarks.filling", "stored", str(since), str(until))["waiting"]:
        if time.monotonic() > deadline:
            return
        time.sleep(0.5)


def figures(seen: dict[str, Any], since: float, until: float, stored: dict[str, Any]) -> Row:
    """Times of what was sent after the warm-up; errors and duplicates of everything."""
    row: Row = {}
    for name in ("next", "submit"):
        took = [1e3 * seconds for began, seconds in seen[name] if since <= began <= until]
        for share in (50, 95, 99):
            row[f"{name}_p{share}_ms"] = float(np.percentile(took, share)) if took else float("nan")
        row[name] = len(took)
    row["judgments"] = row.pop("submit")
    row["pages"] = row.pop("next")
    lost = set(seen["acknowledged"]) - set(stored["leases"])
    twice = len(seen["acknowledged"]) - len(set(seen["acknowledged"]))
    if seen["errors"]:
        print("\n".join(seen["errors"][:5]), file=sys.stderr)
    return {
        "judgments_per_s": row["judgments"] / (until - since),
        **row,
        **{name: stored[name] for name in ("lag_p50_ms", "lag_p95_ms", "lag_p99_ms", "waiting", "arms")},
        "errors": len(seen["errors"]) + len(lost),
        "duplicates": stored["duplicates"] + twice,
        "without_a_pair": seen["nothing"],
    }
