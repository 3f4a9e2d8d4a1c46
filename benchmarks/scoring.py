"""Serving: what a deployment request costs beyond its encoding, and texts scored a second against the encoder alone.

A private site is started on SQLite (web server and one worker), as one command does it. Its project has features of
``--dim`` dimensions and has learned from some judgments. Texts are made of random words, about as long as answers
are. Requests come one after the other, each with responses never seen; their encoding is timed by the worker and
taken off. Then, in turns, ``--clients`` programs send batches of texts, and an encoder in this process encodes the same
texts by itself, all at once: with the worker's options, threads and budget of tokens, while the site has nothing to do.
Every turn has texts of its own, so that no encoding is remembered. Medians over the turns count, of rates and of
processor time (the site's: web server and worker with all they do), which other work on the machine moves less.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.private import cost_of
from benchmarks.site import Caller, private_site, running
from learner.encoders import Encoder

SLUG, PROMPT = "serving", "Why does the tide turn?"
WORDS = (
    "time sea light moon answer because water wind often rises falls under over with and the a of tide pull"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--encoder", default="all-MiniLM-L6-v2")
    parser.add_argument(
        "--dim", type=int, default=384, help="principal directions kept (two text columns come on top)"
    )
    parser.add_argument("--prompts", type=int, default=150, help="of the pool, four responses each")
    parser.add_argument("--judgments", type=int, default=40)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--texts", type=int, default=1536, help="scored in every turn, for the throughput")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--words", type=int, default=60, help="of a response, on average")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Latency of requests, then throughput of scores and of the encoder in turns."""
    rng = np.random.default_rng(args.seed)
    with private_site() as folder:
        token = seed_site(args, rng)
        with running(folder) as port:
            beyond, encoding = time_requests(Caller(port, token), args, rng)
            turns = take_turns(port, token, args, rng)
    median = {name: float(np.median([turn[name] for turn in turns])) for name in turns[0]}
    figures = {
        "request_beyond_encoding_ms_median": float(np.median(beyond)),
        "request_beyond_encoding_ms_p95": float(np.quantile(beyond, 0.95)),
        "request_encoding_ms_median": float(np.median(encoding)),
        **median,
    }
    rows = [{"what": name, "value": round(value, 3)} for name, value in figures.items()]
    return {"figures": figures, "rows": rows, "turns": turns}


def take_turns(
    port: int, token: str, args: argparse.Namespace, rng: np.random.Generator
) -> list[dict[str, float]]:
    """Each turn scores some texts and encodes them alone; who comes first alternates, and the first turn warms up."""
    encoder = the_encoder()
    found = []
    for number in range(args.turns + 1):
        texts = [answer(args.words, rng) for _ in range(args.texts if number else args.batch)]
        ways: list[tuple[str, Callable[[], None]]] = [
            ("scored", partial(score_all, port, token, texts, args)),
            ("encoder", partial(encode_all, encoder, texts)),
        ]
        turn: dict[str, float] = {}
        for name, work in ways if number % 2 else reversed(ways):
            seconds, own, site = timed(work)
            turn[f"{name}_a_second"] = len(texts) / seconds
            turn[f"{name}_cpu_ms_a_text"] = 1000 * (site if name == "scored" else own) / len(texts)
        turn["encoder_over_scored"] = turn["encoder_a_second"] / turn["scored_a_second"]
        turn["scored_over_encoder_cpu"] = turn["scored_cpu_ms_a_text"] / turn["encoder_cpu_ms_a_text"]
        found.append(turn)
    return found[1:]


def timed(work: Callable[[], None]) -> tuple[float, float, float]:
    """Seconds that passed, processor seconds of this process, and of those that it started."""
    began, own, all_of_us = time.perf_counter(), time.process_time(), cost_of(os.getpid())["cpu"]
    work()
    mine = time.process_time() - own
    return time.perf_counter() - began, mine, cost_of(os.getpid())["cpu"] - all_of_us - mine


def answer(words: int, rng: np.random.Generator) -> str:
    return (
        " ".join(rng.choice(WORDS.split(), size=int(rng.integers(words // 2, 3 * words // 2)))).capitalize()
        + "."
    )


def seed_site(args: argparse.Namespace, rng: np.random.Generator) -> str:
    """A project that is embedded, has learned and answers users; a token of its admin's."""
    from annotate import tokens
    from annotate.importing import chunk, texts
    from annotate.importing.rows import PromptIn, Row, plain_response
    from annotate.models import Deployment, Membership, Project, Role, User
    from learner.tasks.absorbing import absorb_waiting
    from learner.tasks.embedding import embed_missing

    project = Project.objects.create(
        name="Serving", slug=SLUG, encoder=args.encoder, dimensions=args.dim, evaluation_prompt_share=0.0
    )
    user = User.objects.create_user("admin")
    Membership.objects.create(project=project, user=user, role=Role.ADMIN)
    Deployment.objects.create(project=project, is_on=True, baseline_share=0.0)
    rows = []
    for number in range(args.prompts):
        messages = [{"role": "user", "content": answer(12, rng)}]
        responses = [plain_response(answer(args.words, rng)) for _ in range(4)]
        rows.append(Row(number, PromptIn(messages, texts.digest_of_messages(messages)), responses))
    chunk.write(project.pk, rows)
    embed_missing(project.pk)
    judge_some(project, user, args.judgments)
    absorb_waiting(project.pk)
    return tokens.make(user, "benchmark", ["deploy"], None, 7)[1]


def judge_some(project: Any, user: Any, judgments: int) -> None:
    """The longer response is the better one."""
    from annotate import judging, serving
    from annotate.judging import Submission

    for _ in range(judgments):
        lease = serving.leases_for(project, user, 1)[0]
        longer = len(lease.left.text) > len(lease.right.text)  # type: ignore[attr-defined]
        judging.record(user, lease.pk, Submission("left" if longer else "right"))


def time_requests(
    caller: Caller, args: argparse.Namespace, rng: np.random.Generator
) -> tuple[list[float], list[float]]:
    """Milliseconds of each request beyond its encoding, and of the encoding; the first ones warm up."""
    from annotate.models import DeploymentRequest

    total: dict[str, float] = {}
    for number in range(args.requests + 10):
        body = {
            "prompt": answer(12, rng),
            "responses": [answer(args.words, rng) for _ in range(args.candidates)],
        }
        began = time.perf_counter()
        told = caller.post(f"/projects/{SLUG}/deployment?wait=30", body)
        if number >= 10:
            total[told["id"]] = 1000 * (time.perf_counter() - began)
    found = DeploymentRequest.objects.in_bulk(list(total))
    encoding = {str(key): 1000 * row.measured["encoding"] for key, row in found.items()}
    return [total[key] - encoding[key] for key in total], list(encoding.values())


def score_all(port: int, token: str, texts: list[str], args: argparse.Namespace) -> None:
    """By all clients, a batch at a time."""
    batches = [texts[start : start + args.batch] for start in range(0, len(texts), args.batch)]
    waiting, lock = iter(batches), threading.Lock()

    def call() -> None:
        caller = Caller(port, token)
        while True:
            with lock:
                batch = next(waiting, None)
            if batch is None:
                return
            items = [{"prompt": PROMPT, "response": text} for text in batch]
            caller.post(f"/projects/{SLUG}/score?wait=30", {"items": items})

    threads = [threading.Thread(target=call) for _ in range(args.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def the_encoder() -> Encoder:
    """With the options of the worker's, precision above all."""
    from annotate.models import FeatureVersion
    from learner.tasks.encoding import encoder_of

    return encoder_of(FeatureVersion.objects.get())


def encode_all(encoder: Encoder, texts: list[str]) -> None:
    encoder.encode([encoder.compose(PROMPT, text) for text in texts])
