"""An exported reward model on one's own machine, without a server: ``pip install touchstone-client[local]``."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FORMAT = 1


class RewardModel:
    """The folder that ``export_model`` writes: a standard sequence classifier, and what it cannot compute.

    A version's features may have columns of the whole text beside the encoder's vector, its length and its formatting
    marks; their weights are in the folder's ``touchstone.json``. No code of the folder is run.

    >>> model = RewardModel.load("my-project-reward-model")  # doctest: +SKIP
    >>> model.score([("Why is the sea salt?", "Rivers bring it.")])  # doctest: +SKIP
    [0.8134]
    """

    def __init__(self, tokenizer: Any, model: Any, about: dict[str, Any]) -> None:
        self.tokenizer, self.model, self.about = tokenizer, model, about
        self.marks = re.compile(about["marks"], re.MULTILINE)

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu", dtype: str = "float32") -> RewardModel:
        """Read the folder; in float32 or bfloat16, never float16."""
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        about = json.loads((Path(folder) / "touchstone.json").read_text())
        if about["format"] != FORMAT:
            raise ValueError(f"{folder} has format {about['format']}; this client reads {FORMAT}")
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=getattr(torch, dtype)
        )
        return cls(tokenizer, model.eval().to(device), about)

    def score(self, items: Sequence[tuple[str, str]], batch: int = 8) -> list[float]:
        """Rewards of (prompt, response) items, as the server computes them to 1e-4."""
        found: list[float] = []
        for start in range(0, len(items), batch):
            part = items[start : start + batch]
            scores = self.classified([self.compose(*item) for item in part])
            found += [
                score + self.about["offset"] + self.beside(response)
                for score, (_, response) in zip(scores, part, strict=True)
            ]
        return found

    def classified(self, texts: list[str]) -> list[float]:
        """What the standard classifier says."""
        import torch

        special = not self.about["chat_template"]
        inputs = self.tokenizer(
            texts, truncation=True, padding=True, add_special_tokens=special, return_tensors="pt"
        )
        with torch.inference_mode():
            logits = self.model(**inputs.to(self.model.device)).logits[:, 0]
        return [float(value) for value in logits.double().cpu()]

    def compose(self, prompt: str, response: str) -> str:
        """One text of both, cut as the encoder's was: the end of the prompt, the start of the response."""
        tokens = self.about["tokens"]
        encoded = prompt.encode("utf-8", "replace")
        end = encoded[-max(tokens * 300 // 256, 1) :].decode("utf-8", "ignore")
        start = response[: tokens * self.about["characters_per_token"]]
        if not self.about["chat_template"]:
            return f"{end}\n\n{start}"
        turns = [
            {"role": "user", "content": end.removesuffix("\n\n")},
            {"role": "assistant", "content": start},
        ]
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False))

    def beside(self, response: str) -> float:
        """What the columns of the text add: its length and its formatting marks."""
        length, marks = map(float, self.about["columns"])
        return length * math.log1p(len(response)) + marks * math.log1p(len(self.marks.findall(response)))
