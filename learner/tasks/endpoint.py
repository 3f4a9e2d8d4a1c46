"""Streaming from an endpoint that speaks OpenAI's protocol: only listed hosts, bounded in time and size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from django.conf import settings

from annotate import outbound, sealing
from annotate.errors import TouchstoneError
from annotate.models import Generator

MOST_BYTES = 8 << 20
LONGEST_LINE = 1 << 20


def stream(generator: Generator, messages: list[dict[str, str]]) -> Iterator[str]:
    """Pieces of one response, as the endpoint sends them; all at once where it does not stream."""
    key = sealing.unseal(generator.sealed_key)
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    body = {
        "model": generator.model,
        "messages": messages,
        "max_tokens": generator.longest,
        "temperature": generator.temperature,
        "stream": True,
    }
    with outbound.opened(
        "POST",
        f"{generator.url.rstrip('/')}/chat/completions",
        json.dumps(body).encode(),
        headers,
        hosts=settings.GENERATOR_HOSTS,
        seconds=settings.GENERATOR_SECONDS,
        most=MOST_BYTES,
    ) as incoming:
        if incoming.status != 200:  # its body may quote what was sent, so it is not repeated
            raise TouchstoneError(f"The endpoint answered with status {incoming.status}.", code="unanswered")
        if incoming.headers.get("content-type", "").startswith("text/event-stream"):
            yield from pieces(incoming.pieces())
        else:
            yield whole(b"".join(incoming.pieces()))


def pieces(chunks: Iterator[bytes]) -> Iterator[str]:
    """The contents of ``data:`` lines until ``[DONE]``; what else comes between is passed over."""
    for line in lines(chunks):
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        if text := content(parsed(data), "delta"):
            yield text


def lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        rest += chunk
        *ready, rest = rest.split(b"\n")
        if len(rest) > LONGEST_LINE:
            raise TouchstoneError("The endpoint sent a line without end.", code="unanswered")
        yield from ready
    yield rest


def whole(body: bytes) -> str:
    return content(parsed(body), "message")


def parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise TouchstoneError("The endpoint sent something that is not JSON.", code="unanswered") from None


def content(value: Any, name: str) -> str:
    """``choices[0].delta.content`` or its like, or nothing; never anything but a text."""
    if isinstance(value, dict) and "error" in value:
        raise TouchstoneError("The endpoint ended with an error.", code="unanswered")
    choices = value.get("choices") if isinstance(value, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    part = first.get(name) if isinstance(first, dict) else None
    text = part.get("content") if isinstance(part, dict) else None
    return text if isinstance(text, str) else ""
