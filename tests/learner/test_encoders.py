"""Encoders: one contract for all, pooling and padding against plain transformers, models built by the test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from learner.encoders import (
    ENCODERS,
    HashingEncoder,
    HuggingFaceEncoder,
    batches_by_length,
    compose,
    load_encoder,
    presets,
)
from learner.encoders import pool as pool_hidden
from learner.errors import LearnerError

TEXTS = [
    "A short one.",
    "",
    "Bread rises because yeast turns sugar into gas.\n\n" * 12,
    "def add(a, b):\n    return a + b",
    "Übung macht den Meister — 熟能生巧 🙂",
    "A short one.",
]
WORDS = [
    "[PAD]",
    "[UNK]",
    "<s>",
    "user",
    "assistant",
    "why",
    "is",
    "the",
    "sky",
    "blue",
    "light",
    "scatters",
    ":",
]
TEMPLATE = "{% for m in messages %}<s> {{ m['role'] }} : {{ m['content'] }} {% endfor %}"


def small_llama(folder: Path, padding_side: str = "right", **sizes: int) -> Path:
    """A Llama-architecture model of two layers with a word tokenizer, saved as any model on a disk is."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", padding_side=padding_side
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    small = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 128,
    }  # fmt: skip
    config = LlamaConfig(vocab_size=len(WORDS), **(small | sizes))
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory):
    return small_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def encoders(llama_folder):
    return {
        "all-MiniLM-L6-v2": load_encoder("all-MiniLM-L6-v2", dtype="float32"),
        "hashing": load_encoder("hashing"),
        "llama": HuggingFaceEncoder(llama_folder, pooling="last", dtype="float32", token_budget=40),
    }


@pytest.fixture(params=["all-MiniLM-L6-v2", "hashing", "llama"])
def encoder(request, encoders):
    return encoders[request.param]


def test_vectors_are_unit_float32_one_per_text_and_alike_for_alike_texts(encoder):
    vectors = encoder.encode(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), encoder.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[5], atol=1e-5)


def test_batching_and_order_change_no_vector(encoder):
    vectors = encoder.encode(TEXTS)
    np.testing.assert_allclose(encoder.encode(TEXTS[::-1])[::-1], vectors, atol=1e-5)
    np.testing.assert_allclose(np.vstack([encoder.encode([text]) for text in TEXTS]), vectors, atol=1e-5)


def test_no_texts_make_no_vectors(encoder):
    assert encoder.encode([]).shape == (0, encoder.dimension)


def test_progress_grows_to_the_number_of_texts(encoder):
    seen = []
    encoder.encode(TEXTS, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (len(TEXTS), len(TEXTS))


def test_a_composed_text_holds_both_sides_however_long(encoder):
    text = encoder.compose("p" * 50_000 + " why is the sky blue", "light scatters " + "r" * 50_000)
    assert "the sky blue" in text
    assert "light scatters" in text
    assert len(text) < 20_000


@pytest.mark.parametrize("prompt", ["因为" * 5000, "🙂" * 5000, "why " * 5000])
def test_no_script_lets_the_prompt_crowd_the_response_out_of_the_token_limit(prompt, encoders):
    minilm = encoders["all-MiniLM-L6-v2"]
    one, other = minilm.encode([minilm.compose(prompt, text) for text in ("yes, certainly", "blue bananas")])
    assert one @ other < 0.999


def test_composing_never_splits_a_character():
    assert compose("é" * 1000, "yes", tokens=3) == "é\n\nyes"


def test_minilm_matches_plain_transformers_one_text_at_a_time(encoders):
    minilm = encoders["all-MiniLM-L6-v2"]
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = (
        AutoTokenizer.from_pretrained(minilm.folder),
        AutoModel.from_pretrained(minilm.folder).eval(),
    )
    for text, vector in zip(TEXTS, minilm.encode(TEXTS), strict=True):
        with torch.no_grad():
            tokens = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
            mean = model(**tokens).last_hidden_state[0].mean(dim=0)
        np.testing.assert_allclose(vector, (mean / mean.norm()).numpy(), atol=1e-5)


def test_minilm_knows_meaning_where_hashing_knows_spelling(encoders):
    texts = ["How do I bake bread?", "Instructions for making a loaf", "How do I break glass?"]
    meaning, spelling = (encoders[name].encode(texts) for name in ("all-MiniLM-L6-v2", "hashing"))
    assert meaning[0] @ meaning[1] > meaning[0] @ meaning[2]
    assert spelling[0] @ spelling[1] < spelling[0] @ spelling[2]


def test_bfloat16_points_the_same_way(encoders):
    exact = encoders["all-MiniLM-L6-v2"].encode(TEXTS)
    rough = load_encoder("all-MiniLM-L6-v2", dtype="bfloat16").encode(TEXTS)
    assert (exact * rough).sum(axis=1).min() > 0.999


def test_changed_minilm_weights_are_refused(monkeypatch):
    monkeypatch.setattr(presets, "MINILM_SHA256", "0" * 64)
    with pytest.raises(LearnerError, match="sha256"):
        load_encoder("all-MiniLM-L6-v2")


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_a_causal_models_vector_is_its_last_tokens_last_hidden_state(tmp_path, padding_side):
    folder = small_llama(tmp_path, padding_side)
    texts = ["why is the sky blue", "light", "the sky scatters the light : why is the light blue"]
    vectors = HuggingFaceEncoder(folder, pooling="last", dtype="float32", normalize=False).encode(texts)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    for text, vector in zip(texts, vectors, strict=True):
        ids = torch.tensor([[WORDS.index(word) for word in text.split()]])
        with torch.no_grad():
            hidden = model(ids, output_hidden_states=True).hidden_states[-1]
        np.testing.assert_allclose(vector, hidden[0, -1].numpy(), atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pooling_ignores_padding_on_either_side(pooling):
    torch.manual_seed(0)
    tokens, padding = torch.randn(1, 3, 4), torch.full((1, 2, 4), 1e6)
    alone = pool_hidden(tokens, torch.ones(1, 3), pooling)
    left = pool_hidden(torch.cat([padding, tokens], 1), torch.tensor([[0, 0, 1, 1, 1]]), pooling)
    right = pool_hidden(torch.cat([tokens, padding], 1), torch.tensor([[1, 1, 1, 0, 0]]), pooling)
    torch.testing.assert_close(left, alone)
    torch.testing.assert_close(right, alone)


def test_a_chat_template_makes_the_text(llama_folder):
    encoder = HuggingFaceEncoder(llama_folder, pooling="last", chat_template=True)
    text = encoder.compose("why is the sky blue", "light scatters")
    assert text == "<s> user : why is the sky blue <s> assistant : light scatters "
    assert encoder.encode([text]).shape == (1, 32)


def test_texts_are_cut_at_the_token_limit(llama_folder):
    encoder = HuggingFaceEncoder(llama_folder, pooling="last", max_length=3)
    vectors = encoder.encode(["why is the", "why is the sky", "why is blue"])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-2)
    assert not np.allclose(vectors[0], vectors[2], atol=1e-1)


def test_the_digest_follows_weights_and_choices_but_not_batch_size(llama_folder, tmp_path):
    def digest(folder=llama_folder, **options):
        return HuggingFaceEncoder(folder, **options).digest

    assert digest() == digest(token_budget=7) == digest(small_llama(tmp_path / "same"))
    others = [
        digest(pooling="last"),
        digest(max_length=9),
        digest(normalize=False),
        digest(chat_template=True),
    ]
    weights = small_llama(tmp_path / "other") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x07")
    assert len({digest(), *others, digest(weights.parent)}) == 6
    assert HashingEncoder(8).digest != HashingEncoder(9).digest


def test_a_model_without_safetensors_or_with_its_own_code_is_refused(llama_folder, tmp_path):
    folder = small_llama(tmp_path)
    weights = folder / "model.safetensors"
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(LearnerError, match="no safetensors"):
        HuggingFaceEncoder(folder)
    (folder / "pytorch_model.bin").rename(weights)
    config = (folder / "config.json").read_text()
    own_code = config.replace("{", '{"auto_map": {"AutoModel": "mine.Mine", "AutoConfig": "mine.C"},', 1)
    (folder / "config.json").write_text(own_code.replace('"llama"', '"mine"'))
    (folder / "mine.py").write_text("raise SystemExit('this must never run')")
    with pytest.raises(LearnerError, match="could not load"):
        HuggingFaceEncoder(folder)


def test_wrong_choices_are_refused_in_words(llama_folder):
    for options, message in (({"pooling": "max"}, "pooling"), ({"dtype": "int3"}, "dtype")):
        with pytest.raises(LearnerError, match=message):
            HuggingFaceEncoder(llama_folder, **options)
    with pytest.raises(LearnerError, match="neither a folder"):
        HuggingFaceEncoder("nobody/nothing-at-all", local_files_only=True)
    with pytest.raises(LearnerError, match="dimension"):
        HashingEncoder(0)


def test_batches_cover_every_text_once_within_the_budget():
    lengths = np.random.default_rng(0).integers(0, 90, size=200)
    batches = list(batches_by_length(lengths.tolist(), 256))
    assert sorted(np.concatenate(batches)) == list(range(200))
    assert all(len(batch) * max(lengths[batch].max(), 1) <= 256 for batch in batches)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded < 1.1 * lengths.sum()
    assert [len(batch) for batch in batches_by_length([999, 999], 256)] == [1, 1]


def test_hashing_equals_counting_trigrams_text_by_text():
    encoder = HashingEncoder(4096)
    one, two = encoder.encode(["abcabc", "abc"])
    ours, counts = np.sort(np.abs(one[one != 0])), np.log1p([1, 1, 1, 1, 1, 2])
    np.testing.assert_allclose(ours, counts / np.linalg.norm(counts), atol=1e-6)
    assert np.count_nonzero(two) == 4
    assert np.allclose(encoder.encode(["ABC"]), two)


def test_hashing_is_the_same_in_every_process():
    encode = "HashingEncoder(64).encode(['why is the sky blue']).tobytes().hex()"
    program = f"from learner.encoders import HashingEncoder; print({encode})"
    outputs = {subprocess.check_output([sys.executable, "-c", program]) for _ in range(2)}
    assert outputs == {HashingEncoder(64).encode(["why is the sky blue"]).tobytes().hex().encode() + b"\n"}


def test_the_registry_names_the_presets_and_its_import_needs_no_torch():
    assert set(ENCODERS) == {
        "all-MiniLM-L6-v2", "hashing", "meta-llama/Meta-Llama-3-8B-Instruct", "Qwen/Qwen2.5-7B-Instruct"
    }  # fmt: skip
    program = "import sys, learner.encoders; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
