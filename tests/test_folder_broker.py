"""The broker that is a folder: a message is taken whole and once, whoever looks in while it is written."""

from __future__ import annotations

import threading
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from kombu import Connection

import annotate.celery  # noqa: F401 - names the transport
from annotate.folder import Transport


@pytest.fixture
def options(tmp_path: Path) -> dict[str, str]:
    Transport.global_state.clear()  # a process remembers which queues there are, whatever the folder
    folder = tmp_path / "broker"
    folder.mkdir()
    names = {"data_folder_in": folder, "data_folder_out": folder, "control_folder": folder / "control"}
    return {name: str(path) for name, path in names.items()}


def queue(options: dict[str, str], name: str = "learn") -> Any:
    return Connection("filesystem://", transport_options=options).SimpleQueue(name)


def take(one: Any) -> Any:
    message = one.get(block=False)
    message.ack()
    return message.payload


def test_messages_come_in_order_and_each_queue_has_its_own(options: dict[str, str]) -> None:
    learn, embed = queue(options), queue(options, "embed")
    for number in range(3):
        learn.put({"n": number})
    embed.put({"n": 9})
    assert [take(learn)["n"] for _ in range(3)] == [0, 1, 2]
    assert take(embed) == {"n": 9}
    with pytest.raises(Empty):
        take(learn)


def test_what_is_no_message_is_dropped(options: dict[str, str], tmp_path: Path) -> None:
    learn = queue(options)
    for name, text in (("0" * 19 + "_a", ""), ("0" * 19 + "_b", "{"), ("0" * 19 + "_c", "\x00")):
        (tmp_path / "broker" / f"{name}.learn.msg").write_text(text)
    learn.put("whole")
    assert take(learn) == "whole"
    assert not list((tmp_path / "broker").glob("*.msg"))


def test_many_who_ring_and_two_who_listen(options: dict[str, str]) -> None:
    """With the transport that comes with kombu a listener failed here three times of five."""
    taken: list[int] = []
    faults: list[BaseException] = []
    ended = threading.Event()

    def ring(first: int) -> None:
        one = queue(options)
        for number in range(first, first + 300):
            one.put(number)

    def listen() -> None:
        one = queue(options)
        while True:
            is_last = ended.is_set()
            try:
                taken.append(take(one))
            except Empty:
                if is_last:
                    return
            except BaseException as fault:
                faults.append(fault)
                return

    queue(options)
    listeners = [threading.Thread(target=listen) for _ in range(2)]
    ringers = [threading.Thread(target=ring, args=(first,)) for first in (0, 300, 600)]
    for thread in [*listeners, *ringers]:
        thread.start()
    for thread in ringers:
        thread.join()
    ended.set()
    for thread in listeners:
        thread.join()
    assert not faults
    assert sorted(taken) == list(range(900))
