"""The feature pipeline: against dense formulas and scikit-learn, and against pools that are no pools."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.decomposition import PCA

from learner import features as features_module
from learner import store
from learner.errors import LearnerError
from learner.features import FeaturePipeline, centre_by_prompt, group_means, sample_rows, text_columns


def a_pool(
    rng: np.random.Generator, prompts: int = 60, each: int = 4, width: int = 12
) -> tuple[np.ndarray, ...]:
    """Rows with a large part shared by each prompt, a decaying spectrum and two columns."""
    prompt = np.repeat(np.arange(prompts), each)
    shared = 10.0 * rng.normal(size=(prompts, width))
    raw = shared[prompt] + rng.normal(size=(prompts * each, width)) / np.arange(1, width + 1)
    return raw, prompt, rng.normal(loc=5.0, scale=(2.0, 0.1), size=(len(raw), 2))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_centring_takes_away_each_prompts_mean_in_any_row_order(rng):
    features, prompt = rng.normal(size=(30, 3)), rng.integers(0, 7, size=30)
    expected = np.vstack(
        [row - features[prompt == label].mean(axis=0) for row, label in zip(features, prompt, strict=True)]
    )
    np.testing.assert_allclose(centre_by_prompt(features, prompt), expected, atol=1e-12)
    assert centre_by_prompt(np.zeros((0, 3)), np.zeros(0, dtype=int)).shape == (0, 3)


def test_directions_are_those_of_scikit_learns_pca_of_within_prompt_rows(rng):
    raw, prompt, _ = a_pool(rng)
    pipeline = FeaturePipeline.fit(raw, prompt, rng=rng, dimensions=5)
    reference = PCA(5).fit(centre_by_prompt(raw, prompt))
    directions = pipeline.components / np.linalg.norm(pipeline.components, axis=0)
    np.testing.assert_allclose(np.abs((directions * reference.components_.T).sum(axis=0)), 1.0, atol=1e-6)


def test_features_equal_the_dense_formula(rng):
    raw, prompt, columns = a_pool(rng)
    pipeline = FeaturePipeline.fit(raw, prompt, columns, rng=rng, dimensions=4, column_weight=2.0)
    centred = centre_by_prompt(raw, prompt)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(raw))
    values, vectors = values[::-1][:4], vectors[:, ::-1][:, :4]
    projected = (raw - raw.mean(axis=0)) @ vectors / np.sqrt(values + 0.1 * values.mean())
    standard = 2.0 * (columns - columns.mean(axis=0)) / centre_by_prompt(columns, prompt).std(axis=0)
    expected = np.hstack(
        [projected * np.sign((projected * pipeline.transform(raw, columns)[:, :4]).sum(0)), standard]
    )
    expected /= np.sqrt((centre_by_prompt(expected, prompt) ** 2).sum(axis=1).mean())
    np.testing.assert_allclose(pipeline.transform(raw, columns), expected, atol=1e-5)


def test_the_mean_squared_norm_within_prompts_is_one_and_the_mean_is_zero(rng):
    raw, prompt, columns = a_pool(rng)
    for extra in (columns, None):
        phi = FeaturePipeline.fit(raw, prompt, extra, rng=rng, dimensions=6).transform(raw, extra)
        assert phi.dtype == np.float32
        assert (centre_by_prompt(phi, prompt) ** 2).sum(axis=1).mean() == pytest.approx(1.0, abs=1e-5)
        np.testing.assert_allclose(phi.mean(axis=0), 0.0, atol=1e-5)


def test_what_all_responses_of_a_prompt_share_cancels_in_a_difference(rng):
    raw, prompt, _ = a_pool(rng)
    pipeline = FeaturePipeline.fit(raw, prompt, rng=rng, dimensions=6)
    shifted = raw + (100.0 * rng.normal(size=(60, 12)))[prompt]
    before, after = (
        pipeline.transform(rows)[0::4] - pipeline.transform(rows)[1::4] for rows in (raw, shifted)
    )
    np.testing.assert_allclose(before, after, atol=1e-4)


def test_rows_are_transformed_one_by_one_as_all_at_once(rng):
    raw, prompt, columns = a_pool(rng)
    pipeline = FeaturePipeline.fit(raw, prompt, columns, rng=rng, dimensions=6)
    single = np.vstack([pipeline.transform(raw[i : i + 1], columns[i : i + 1]) for i in range(20)])
    np.testing.assert_allclose(single, pipeline.transform(raw, columns)[:20], atol=1e-6)


def test_a_saved_pipeline_is_the_same_pipeline(rng, tmp_path):
    raw, prompt, columns = a_pool(rng)
    pipeline = FeaturePipeline.fit(raw, prompt, columns, rng=rng)
    store.write_state(tmp_path / "p.safetensors", pipeline.state())
    again = FeaturePipeline.from_state(store.read_state(tmp_path / "p.safetensors"))
    assert again.version == pipeline.version
    np.testing.assert_array_equal(again.transform(raw, columns), pipeline.transform(raw, columns))


def test_the_version_follows_every_array_and_nothing_else(rng):
    raw, prompt, columns = a_pool(rng)
    one, two = (FeaturePipeline.fit(raw, prompt, columns, rng=np.random.default_rng(i)) for i in (1, 2))
    assert one.version == two.version
    for name in ("mean", "components", "column_mean", "column_scale", "scale"):
        changed = dataclasses.replace(one, **{name: getattr(one, name) * (1 + 1e-15) + 1e-15})
        assert changed.version != one.version


def test_a_share_of_variance_keeps_as_many_directions_as_it_takes(rng):
    raw, prompt, _ = a_pool(rng)
    ratios = np.cumsum(PCA().fit(centre_by_prompt(raw, prompt)).explained_variance_ratio_)
    for share in (0.5, 0.9, 0.99):
        pipeline = FeaturePipeline.fit(raw, prompt, rng=rng, variance=share)
        assert pipeline.dimension == int((ratios < share).sum()) + 1


def test_a_large_pool_is_sampled_by_whole_prompts_and_repeatably(rng, monkeypatch):
    monkeypatch.setattr("learner.features._SAMPLE_ROWS", 80)
    raw, prompt, _ = a_pool(rng)
    versions = [FeaturePipeline.fit(raw, prompt, rng=np.random.default_rng(s)).version for s in (3, 3, 4)]
    assert versions[0] == versions[1] != versions[2]


def test_rank_bounds_the_dimension_when_there_are_few_rows_or_copies(rng):
    raw, prompt, _ = a_pool(rng, prompts=2, each=3)
    assert FeaturePipeline.fit(raw, prompt, rng=rng).dimension == 4
    twice = np.hstack([raw, raw]).astype(np.float32)
    assert FeaturePipeline.fit(twice, prompt, rng=rng).dimension == 4


def test_single_response_prompts_are_left_out_of_the_fit(rng):
    raw, prompt, _ = a_pool(rng)
    lonely = np.vstack([raw, 1e6 * rng.normal(size=(5, 12))])
    labels = np.concatenate([prompt, np.arange(1000, 1005)])
    assert (
        FeaturePipeline.fit(lonely, labels, rng=rng).version
        == FeaturePipeline.fit(raw, prompt, rng=rng).version
    )


def test_columns_alone_carry_a_pool_whose_vectors_are_all_alike(rng):
    _, prompt, columns = a_pool(rng)
    pipeline = FeaturePipeline.fit(np.ones((240, 5)), prompt, columns, rng=rng)
    assert pipeline.dimension == 2
    assert np.isfinite(pipeline.transform(np.ones((240, 5)), columns)).all()


def test_a_column_that_never_differs_within_a_prompt_has_no_weight(rng):
    raw, prompt, columns = a_pool(rng)
    columns[:, 1] = 0.1 * prompt
    phi = FeaturePipeline.fit(raw, prompt, columns, rng=rng, dimensions=3).transform(raw, columns)
    np.testing.assert_array_equal(phi[:, -1], 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw, prompt: (raw, np.arange(len(raw))), "two responses"),
        (lambda raw, prompt: (np.ones_like(raw), prompt), "nothing can be learned"),
        (lambda raw, prompt: (np.where(np.arange(len(raw))[:, None] == 7, np.nan, raw), prompt), "NaN"),
        (lambda raw, prompt: (raw, prompt[:-1]), "prompt has shape"),
        (lambda raw, prompt: (raw[:0], prompt[:0]), "two responses"),
        (lambda raw, prompt: (raw[:, 0], prompt), "shape"),
    ],
)
def test_a_pool_that_teaches_nothing_is_refused_in_words(rng, change, message):
    raw, prompt = change(*a_pool(rng)[:2])
    with pytest.raises(LearnerError, match=message):
        FeaturePipeline.fit(raw, prompt, rng=rng)


def test_transform_refuses_what_the_fit_did_not_know(rng):
    raw, prompt, columns = a_pool(rng)
    pipeline = FeaturePipeline.fit(raw, prompt, columns, rng=rng)
    for arguments in ((raw[:, :5], columns), (raw, None), (raw, columns[:, :1]), (raw, columns[:-1])):
        with pytest.raises(LearnerError):
            pipeline.transform(*arguments)


def test_a_state_that_is_incomplete_or_of_another_format_is_refused(rng):
    state = FeaturePipeline.fit(*a_pool(rng)[:2], rng=rng).state()
    with pytest.raises(LearnerError, match="lacks mean"):
        FeaturePipeline.from_state({name: array for name, array in state.items() if name != "mean"})
    with pytest.raises(LearnerError, match="format 9"):
        FeaturePipeline.from_state(state | {"format": np.asarray(9)})
    with pytest.raises(LearnerError, match="do not fit"):
        FeaturePipeline.from_state(state | {"mean": np.zeros(3)})


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("plain words, 3 * 4 - 2 # not a heading", 0),
        ("# Title\n\n- one\n- two\n", 3),
        ("1. one\n2) two\n> quoted", 3),
        ("```python\nx = 1\n```", 2),
        ("**bold** and `code`", 3),
        ("| a | b |\n|---|---|", 2),
    ],
)
def test_formatting_marks_are_counted_as_a_reader_sees_them(text, marks):
    assert text_columns([text])[0].tolist() == pytest.approx([np.log1p(len(text)), np.log1p(marks)])


def test_no_texts_make_no_rows():
    assert text_columns([]).shape == (0, 2)


def test_group_means_are_those_of_the_centred_rows_whatever_the_block():
    rng = np.random.default_rng(0)
    features, prompt, group = rng.normal(size=(200, 5)), rng.integers(0, 30, 200), rng.integers(0, 4, 200)
    centred = centre_by_prompt(features, prompt)
    expected = np.array([centred[group == one].mean(axis=0) for one in range(4)])
    for block in (1, 7, 1000):
        np.testing.assert_allclose(group_means(features, prompt, group, block=block), expected, atol=1e-12)


def test_a_fit_to_the_sampled_rows_alone_is_the_fit_to_the_pool(monkeypatch):
    monkeypatch.setattr(features_module, "_SAMPLE_ROWS", 90)
    rng = np.random.default_rng(0)
    raw, prompt = rng.normal(size=(300, 6)), np.repeat(np.arange(100), 3)
    rows = sample_rows(prompt, np.random.default_rng(0))
    assert len(rows) == 90
    whole = FeaturePipeline.fit(raw, prompt, rng=np.random.default_rng(0), dimensions=3)
    part = FeaturePipeline.fit(raw[rows], prompt[rows], rng=np.random.default_rng(0), dimensions=3)
    assert part.version == whole.version
