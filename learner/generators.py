"""Candidate responses by a causal language model in a folder: sampled token by token, handed on as they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learner.errors import LearnerError

if TYPE_CHECKING:
    import torch

BETWEEN_PIECES = 4


class CausalGenerator:
    """A transformer of the Hugging Face kind that continues conversations. O(tokens x model) a response.

    Only safetensors weights in a local folder are read, and no code that comes with a model is run.

    Parameters
    ----------
    folder : Path
        Weights, configuration and tokenizer.
    device : str, optional
        "cuda" where there is one, else "cpu".

    Raises
    ------
    LearnerError
        A folder without safetensors, or one that is no causal language model.
    """

    def __init__(self, folder: Path, device: str | None = None) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if not any(folder.glob("*.safetensors")):
            raise LearnerError(f"{folder.name} holds no safetensors weights; other formats are not read")
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        fixed: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, **fixed)
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder, use_safetensors=True, dtype="auto", **fixed
            )
        except (OSError, ValueError) as error:
            raise LearnerError(f"could not load the language model in {folder.name}: {error}") from error
        self._model = model.eval().requires_grad_(False).to(self.device)
        self._longest = int(getattr(self._model.config, "max_position_embeddings", 0) or 1 << 20)

    def stream(
        self, messages: Sequence[dict[str, str]], longest: int, temperature: float, seed: int
    ) -> Iterator[str]:
        """Pieces of one response; joined they are the whole. The same seed gives the same response on one machine.

        Parameters
        ----------
        messages : sequence of {"role", "content"}
        longest : int
            Tokens at most.
        temperature : float
            0 always takes the likeliest token.
        seed : int
        """
        import torch

        longest = min(longest, self._longest // 2)
        rng = torch.Generator(device="cpu").manual_seed(seed)
        ids = self._ids(messages, longest)
        written: list[int] = []
        told, past, ends = "", None, self._ends()
        for _ in range(longest):
            with torch.inference_mode():
                out = self._model(input_ids=ids, past_key_values=past, use_cache=True)
            past = out.past_key_values
            token = _sample(out.logits[0, -1].float().cpu(), temperature, rng)
            if token in ends:
                break
            written.append(token)
            ids = torch.tensor([[token]], device=self.device)
            if len(written) % BETWEEN_PIECES == 0 and (text := self._text(written)).startswith(told):
                piece = text[len(told) :]
                if piece and not text.endswith("�"):  # half of a character: its other half comes next
                    told = text
                    yield piece
        rest = self._text(written)
        if rest[len(told) :]:
            yield rest[len(told) :]

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _ends(self) -> set[int]:
        configured = self._model.generation_config.eos_token_id
        found = configured if isinstance(configured, list) else [configured]
        return {int(one) for one in [*found, self._tokenizer.eos_token_id] if one is not None}

    def _ids(self, messages: Sequence[dict[str, str]], longest: int) -> torch.Tensor:
        """The conversation as tokens by the model's chat template, its beginning cut where the model reads no more."""
        import torch

        if getattr(self._tokenizer, "chat_template", None):
            text = self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
            tokens = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            text = "\n\n".join(f"{one['role'].capitalize()}: {one['content']}" for one in messages)
            tokens = self._tokenizer(f"{text}\n\nAssistant:")["input_ids"]
        room = max(1, self._longest - longest)
        return torch.tensor([tokens[-room:] or [0]], device=self.device)


def _sample(logits: torch.Tensor, temperature: float, rng: torch.Generator) -> int:
    import torch

    if temperature <= 0:
        return int(logits.argmax())
    return int(torch.multinomial(torch.softmax(logits / temperature, dim=-1), 1, generator=rng))
