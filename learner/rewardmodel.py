"""The reward model as a standard sequence classifier: encoder, pooling, pipeline and theta in one transformers folder.

The reward is linear in the encoder's vector: ``r = w . e + c``. Causal models read the last token and have a linear
head, so w is their head. BERT-like models have a head of their own, dense and tanh over the first token; there w is
read in tanh's linear range. Their mean over tokens is one more layer of the same kind, whose attention is uniform.

Text columns (length and formatting of the whole text) are no function of the encoder's vector. Their weights stand in
``touchstone.json`` beside the classifier; the card and the Python client add them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from learner.encoders.base import CHARACTERS_PER_TOKEN
from learner.errors import LearnerError
from learner.features import MARKS, FeaturePipeline
from learner.rewardlayers import LINEAR, fill, head_of, largest_norm, plain_mean, rows_of, unit_mean

if TYPE_CHECKING:
    from learner.encoders import HuggingFaceEncoder

Array = npt.NDArray[np.float64]

ABOUT = "touchstone.json"
BERT_LIKE = ("bert", "roberta", "xlm-roberta", "camembert")


@dataclass(frozen=True)
class LinearReward:
    """The reward: ``weight . e + constant`` of the encoder's vector e, plus ``columns . c`` of the text columns c.

    Parameters
    ----------
    weight : (d0,) array
    constant : float
        Shared by all responses, so it changes no preference.
    columns : (c,) array
        Empty, or the weights of `text_columns`: functions of the whole text, which no classifier computes.
    """

    weight: Array
    constant: float
    columns: Array = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def of(cls, pipeline: FeaturePipeline, theta: npt.ArrayLike) -> LinearReward:
        """Fold a feature pipeline and theta together. O(d0 d).

        Examples
        --------
        >>> pipeline = FeaturePipeline(np.ones(2), np.eye(2), np.zeros(0), np.zeros(0), 0.5)
        >>> reward = LinearReward.of(pipeline, [2.0, 4.0])
        >>> reward.weight.tolist(), reward.constant
        ([1.0, 2.0], -3.0)
        """
        values = np.asarray(theta, dtype=np.float64)
        kept = pipeline.components.shape[1]
        weight = pipeline.scale * (pipeline.components @ values[:kept])
        columns = pipeline.scale * pipeline.column_scale * values[kept:]
        return cls(weight, -float(pipeline.mean @ weight + pipeline.column_mean @ columns), columns)

    def __call__(self, vectors: npt.ArrayLike) -> Array:
        """Rewards of vectors, (n,), without what text columns add."""
        return np.asarray(np.asarray(vectors, dtype=np.float64) @ self.weight + self.constant)


@dataclass(frozen=True)
class Exported:
    """What was written: ``score + offset``, and what text columns add, is the reward.

    `difference` is the largest between score + offset and the encoder's part of the reward on the texts tried.
    """

    architecture: str
    offset: float
    dtype: str
    tried: int
    difference: float
    columns: tuple[float, ...] = ()


def export(
    encoder: HuggingFaceEncoder,
    reward: LinearReward,
    folder: Path,
    texts: Sequence[str],
    tolerance: float = 1e-4,
) -> Exported:
    """Write a folder for ``AutoModelForSequenceClassification`` (one label), and prove it on some texts.

    Parameters
    ----------
    encoder : HuggingFaceEncoder
        That the pipeline was fitted to.
    reward : LinearReward
    folder : Path
        Safetensors, config and tokenizer are written there.
    texts : sequence of str
        Composed texts; the written model is loaded again and its scores are compared on them.
    tolerance : float
        Largest difference allowed between score + offset and the reward.

    Raises
    ------
    LearnerError
        A model, pooling or scaling that no standard class expresses, with what to do; or a difference too large.
    """
    model, offset = classifier(encoder, reward)
    tokenizer = padded_tokenizer(encoder, model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    difference = largest_difference(encoder, reward, folder, texts, offset)
    if not difference <= tolerance:
        raise LearnerError(
            f"The scores of the written model differ by up to {difference:.1e} from the reward, more than "
            f"{tolerance:.0e}: this architecture cannot express it. Make a version with another pooling, or with "
            '"Length 1" turned off.'
        )
    dtype = str(model.dtype).removeprefix("torch.")
    columns = tuple(map(float, reward.columns)) if reward.columns.any() else ()
    done = Exported(type(model).__name__, offset, dtype, len(texts), difference, columns)
    (folder / ABOUT).write_text(json.dumps(beside(encoder, done), indent=1) + "\n")
    return done


def beside(encoder: HuggingFaceEncoder, done: Exported) -> dict[str, Any]:
    """What a program needs besides the classifier, to compose texts and to add what it cannot compute."""
    return {
        "format": 1,
        "tokens": encoder.max_length,
        "characters_per_token": CHARACTERS_PER_TOKEN,
        "chat_template": encoder.chat_template,
        "offset": done.offset,
        "columns": list(done.columns or (0.0, 0.0)),
        "marks": MARKS.pattern,
    }


def classifier(encoder: HuggingFaceEncoder, reward: LinearReward) -> tuple[Any, float]:
    """The model in memory, and the offset: what has to be added to its score to give the reward."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(encoder.folder, num_labels=1, local_files_only=True)
    if encoder.pooling == "last":
        return causal(encoder, config, reward)
    if config.model_type not in BERT_LIKE:
        raise LearnerError(
            f"A {config.model_type} model with {encoder.pooling} pooling has no standard sequence classifier with the "
            f"same score. BERT-like models have one, and causal models with the last token."
        )
    if encoder.pooling == "cls" and encoder.normalize:
        raise LearnerError(
            "First-token vectors that are scaled to length 1 have no standard sequence classifier with the same "
            'score. Make a version with "Length 1" turned off.'
        )
    return bert_like(encoder, config, reward), 0.0


def loaded(encoder: HuggingFaceEncoder, config: Any, dtype: str) -> Any:
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # that the head is new is known
    try:
        return AutoModelForSequenceClassification.from_pretrained(
            encoder.folder,
            config=config,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        ).eval()
    except ValueError as error:
        raise LearnerError(
            f"There is no standard sequence classifier of this architecture: {error}"
        ) from error
    finally:
        logging.set_verbosity(before)


def causal(encoder: HuggingFaceEncoder, config: Any, reward: LinearReward) -> tuple[Any, float]:
    """A linear head on the last token; it has no bias, so the constant stays outside."""
    import torch

    if encoder.normalize:
        raise LearnerError(
            "Last-token vectors that are scaled to length 1 have no standard sequence classifier with the same "
            'score. Make a version with "Length 1" turned off.'
        )
    model = loaded(encoder, config, encoder.dtype)
    head = getattr(model, "score", None)
    if not isinstance(head, torch.nn.Linear):
        raise LearnerError(f"{type(model).__name__} has no linear head on the last token.")
    fill(head, reward.weight[None])
    return model, reward.constant


def bert_like(encoder: HuggingFaceEncoder, config: Any, reward: LinearReward) -> Any:
    """One more layer that pools where the encoder takes the mean, and the head's tanh in its linear range."""
    is_mean = encoder.pooling == "mean"
    config.num_hidden_layers += is_mean
    model = loaded(encoder, config, "float32")
    layers = model.base_model.encoder.layer
    size = largest_norm(layers[-2 if is_mean else -1].output.LayerNorm)
    if is_mean:
        add = unit_mean if encoder.normalize else plain_mean
        read = add(layers[-2].output.LayerNorm, layers[-1], reward.weight, config.layer_norm_eps)
        size = 1.0 if encoder.normalize else size
    else:
        read = reward.weight
    bound = float(np.linalg.norm(reward.weight)) * size or 1.0
    dense, out = head_of(model)
    fill(dense, rows_of(read * (LINEAR / bound), len(read)))
    weight = np.zeros((1, len(read)))
    weight[0, 0] = bound / LINEAR
    fill(out, weight, np.array([reward.constant]))
    return model


def padded_tokenizer(encoder: HuggingFaceEncoder, model: Any) -> Any:
    """The encoder's tokenizer, cutting where the encoder cuts, with a padding token that ends no text.

    Causal classifiers look for the last token that is no padding, so it must not be the one that ends a text.
    """
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(
        encoder.folder, local_files_only=True, trust_remote_code=False
    )
    tokenizer.model_max_length, tokenizer.padding_side = encoder.max_length, "right"
    if encoder.pooling == "last" and tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        tokenizer.add_special_tokens({"pad_token": "<|touchstone_pad|>"})
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return tokenizer


def largest_difference(
    encoder: HuggingFaceEncoder, reward: LinearReward, folder: Path, texts: Sequence[str], offset: float
) -> float:
    """Largest distance of score + offset from the reward, the folder loaded as anybody would load it."""
    found = scores(folder, texts, special_tokens=not encoder.chat_template, device=encoder.device)
    same = encoder if encoder.dtype == "float32" else in_float32(encoder)
    return float(np.abs(found + offset - reward(same.encode(list(texts)))).max(initial=0.0))


def in_float32(encoder: HuggingFaceEncoder) -> HuggingFaceEncoder:
    """The same encoder computing in float32, where the rounding of shorter formats does not hide a difference."""
    from learner.encoders import HuggingFaceEncoder

    return HuggingFaceEncoder(
        encoder.folder,
        encoder.pooling,
        encoder.max_length,
        "float32",
        chat_template=encoder.chat_template,
        normalize=encoder.normalize,
        local_files_only=True,
        device=encoder.device,
    )


def scores(
    folder: Path, texts: Sequence[str], special_tokens: bool = True, batch: int = 8, device: str = "cpu"
) -> Array:
    """Scores of texts by a written folder, in padded batches and float32; what its README shows."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        folder, local_files_only=True, dtype=torch.float32
    )
    model.eval().to(device)
    found = []
    for start in range(0, len(texts), batch):
        part, how = list(texts[start : start + batch]), {"truncation": True, "padding": True}
        inputs = tokenizer(part, add_special_tokens=special_tokens, return_tensors="pt", **how)
        with torch.inference_mode():
            found.append(model(**inputs.to(device)).logits[:, 0].double().cpu().numpy())
    return np.concatenate(found) if found else np.zeros(0)
