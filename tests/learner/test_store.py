"""Embeddings and states on disk: whole or absent, and never believed without proof."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from learner import store
from learner.errors import LearnerError


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)


@contextmanager
def disk_with_room_for(size: int) -> Iterator[None]:
    """No file can grow past `size`: the system refuses the write as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_shard_reads_back_bit_for_bit_by_our_code_and_by_safetensors(tmp_path, rows):
    path = store.write_shard(tmp_path, 40, rows, encoder="e1", texts="t1")
    assert path.name == "shard-000000040-000000050.safetensors"
    np.testing.assert_array_equal(store.read_rows(tmp_path, np.arange(40, 50)), rows)
    with safe_open(path, framework="numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("rows"), rows)
        assert file.metadata() | {"sha256": ""} == {
            "start": "40", "stop": "50", "encoder": "e1", "texts": "t1", "sha256": ""
        }  # fmt: skip


def test_several_shards_become_one_array_in_position_order(tmp_path, rows):
    for start in (6, 0, 3):
        store.write_shard(tmp_path, start, rows[start : start + 3])
    store.write_shard(tmp_path, 9, rows[9:])
    np.testing.assert_array_equal(store.load_all(tmp_path, 10), rows)
    np.testing.assert_array_equal(store.load_all(tmp_path, 7), rows[:7])


def test_one_shard_is_memory_mapped_and_cannot_be_written_through(tmp_path, rows):
    store.write_shard(tmp_path, 0, rows)
    loaded = store.load_all(tmp_path, 10)
    assert isinstance(loaded, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        loaded[0, 0] = 1.0


def test_half_precision_is_kept_on_disk_and_returned_as_float32(tmp_path, rows):
    path = store.write_shard(tmp_path, 0, rows.astype(np.float16))
    loaded = store.load_all(tmp_path, 10)
    assert loaded.dtype == np.float32 == store.read_rows(tmp_path, [1]).dtype
    np.testing.assert_array_equal(loaded, rows.astype(np.float16).astype(np.float32))
    assert path.stat().st_size < store.write_shard(tmp_path / "full", 0, rows).stat().st_size


def test_rows_come_in_the_order_asked_with_repeats_across_shards(tmp_path, rows):
    store.write_shard(tmp_path, 0, rows[:4])
    store.write_shard(tmp_path, 4, rows[4:])
    wanted = [9, 0, 4, 4, 3]
    np.testing.assert_array_equal(store.read_rows(tmp_path, wanted), rows[wanted])


@settings(max_examples=60, deadline=None)
@given(
    present=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), max_size=5),
    total=st.integers(0, 60),
    size=st.integers(1, 16),
)
def test_what_is_missing_and_what_is_present_make_the_whole(tmp_path_factory, present, total, size):
    folder = tmp_path_factory.mktemp("shards")
    for start, length in present:
        store.write_shard(folder, start, np.zeros((length, 1)))
    covered = {i for start, length in present for i in range(start, start + length)}
    missing = store.missing_ranges(folder, total, size)
    positions = [i for start, stop in missing for i in range(start, stop)]
    assert positions == [i for i in range(total) if i not in covered]
    assert all(stop - start <= size and start // size == (stop - 1) // size for start, stop in missing)


def test_embedding_goes_on_where_a_killed_job_stopped(tmp_path, rows):
    store.write_shard(tmp_path, 0, rows[:4])
    (tmp_path / ".shard-000000004-000000008.safetensors.77-ab.tmp").write_bytes(b"half a sha")
    assert store.missing_ranges(tmp_path, 10, 4) == [(4, 8), (8, 10)]


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_shard_is_written_again_and_never_read(tmp_path, rows, keep):
    path = store.write_shard(tmp_path, 0, rows)
    path.write_bytes(path.read_bytes()[:keep])
    assert store.missing_ranges(tmp_path, 10) == [(0, 10)]
    with pytest.raises(LearnerError, match=f"{path.name} is damaged"):
        store.load_all(tmp_path, 10)


def test_a_changed_byte_in_a_shard_is_noticed_and_the_file_named(tmp_path, rows):
    path = store.write_shard(tmp_path, 0, rows)
    store.load_all(tmp_path, 10)
    flip_last_byte(path)
    for read in (lambda: store.load_all(tmp_path, 10), lambda: store.read_rows(tmp_path, [0])):
        with pytest.raises(LearnerError, match=path.name):
            read()


def test_a_gap_is_named_by_its_positions(tmp_path, rows):
    store.write_shard(tmp_path, 0, rows[:4])
    store.write_shard(tmp_path, 6, rows[6:])
    with pytest.raises(LearnerError, match="positions 4 to 5"):
        store.load_all(tmp_path, 10)
    with pytest.raises(LearnerError, match="position 5"):
        store.read_rows(tmp_path, [1, 5])
    with pytest.raises(LearnerError, match="positions 0 to 2"):
        store.load_all(tmp_path / "empty", 3)


def test_shards_of_another_encoder_or_width_are_refused(tmp_path, rows):
    store.write_shard(tmp_path, 0, rows[:5], encoder="first")
    for read in (store.load_all, store.missing_ranges):
        with pytest.raises(LearnerError, match="made by encoder first"):
            read(tmp_path, 5, encoder="second")
    store.write_shard(tmp_path, 5, rows[5:, :2], encoder="first")
    with pytest.raises(LearnerError, match="2 dimensions"):
        store.load_all(tmp_path, 10, encoder="first")


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((0, 3)), np.full((2, 2), np.nan)])
def test_rows_that_are_no_finite_matrix_are_refused(tmp_path, bad):
    with pytest.raises(LearnerError):
        store.write_shard(tmp_path, 0, bad)


def test_a_state_reads_back_bit_for_bit_with_shapes_and_types(tmp_path):
    state = {
        "theta": np.array([1e-300, -0.0, np.pi]),
        "step": np.asarray(7),
        "covariance": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "none": np.zeros((0, 4)),
        "flags": np.array([True, False]),
    }
    digest = store.write_state(tmp_path / "s.safetensors", state, {"estimator": "OnePass"})
    loaded = store.read_state(tmp_path / "s.safetensors", digest)
    assert loaded.keys() == state.keys()
    for name, array in state.items():
        assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape)
        assert loaded[name].tobytes() == np.ascontiguousarray(array).tobytes()
    assert store.read_metadata(tmp_path / "s.safetensors")["estimator"] == "OnePass"
    assert digest == store.state_digest(state)


def test_a_state_is_refused_when_changed_truncated_missing_or_another(tmp_path):
    path = tmp_path / "s.safetensors"
    store.write_state(path, {"theta": np.arange(3.0)})
    with pytest.raises(LearnerError, match=r"s\.safetensors holds state"):
        store.read_state(path, "0" * 64)
    flip_last_byte(path)
    with pytest.raises(LearnerError, match=r"s\.safetensors is damaged"):
        store.read_state(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(LearnerError, match=r"s\.safetensors is damaged"):
        store.read_state(path)
    with pytest.raises(LearnerError, match="No such file"):
        store.read_state(tmp_path / "gone.safetensors")


def test_objects_and_strings_are_never_stored(tmp_path):
    for value in (np.array(["a"]), np.array([object()])):
        with pytest.raises(LearnerError, match="only numbers"):
            store.write_state(tmp_path / "s.safetensors", {"x": value})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_state_and_names_the_file(tmp_path):
    path = tmp_path / "s.safetensors"
    digest = store.write_state(path, {"theta": np.zeros(3)})
    with disk_with_room_for(4096), pytest.raises(LearnerError, match=r"could not write .*s\.safetensors"):
        store.write_state(path, {"theta": np.zeros(100_000)})
    assert store.read_state(path, digest)["theta"].shape == (3,)
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.safetensors"]


def test_a_folder_that_cannot_be_made_is_a_sentence_not_a_trace(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LearnerError, match="could not write"):
        store.write_shard(tmp_path / "file", 0, np.zeros((1, 1)))


def test_leftovers_of_killed_writers_go_and_those_of_living_writers_stay(tmp_path):
    old, young = (tmp_path / f".s.safetensors.1-{name}.tmp" for name in ("old", "young"))
    old.touch()
    young.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    store.write_state(tmp_path / "s.safetensors", {"theta": np.zeros(1)})
    assert not old.exists()
    assert young.exists()


def test_a_writer_killed_at_any_moment_leaves_a_whole_state(tmp_path):
    path = tmp_path / "s.safetensors"
    store.write_state(path, {"theta": np.zeros(200_000)})
    program = (
        "import sys, itertools, numpy as np; from pathlib import Path; from learner.store import write_state\n"
        "for i in itertools.count():\n"
        "    write_state(Path(sys.argv[1]), {'theta': np.full(200_000, float(i))}); print(i, flush=True)"
    )
    for delay in (0.0, 0.013, 0.031):
        writer = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
        writer.stdout.readline()
        time.sleep(delay)
        writer.kill()
        writer.communicate()
        theta = store.read_state(path)["theta"]
        assert (theta == theta[0]).all()
