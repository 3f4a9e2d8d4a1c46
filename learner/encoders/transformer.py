"""Any Hugging Face transformer as an encoder. Torch is imported only when one is made."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from learner.encoders.base import (
    COMPOSE_VERSION,
    FloatArray,
    Progress,
    batches_by_length,
    compose,
    digest_of,
    file_sha256,
)
from learner.errors import LearnerError

if TYPE_CHECKING:
    import torch

Pooling = Literal["mean", "cls", "last"]

_WINDOW = 8192


class HuggingFaceEncoder:
    """Any transformer in a folder or by name: sentence encoders, BERT-like models, causal language models.

    Only safetensors weights are read and no code that comes with a model is run. Without a network a model
    must be in a local folder or in the Hugging Face cache.

    Parameters
    ----------
    name_or_path : str or Path
        Folder, or ``owner/name``.
    pooling : "mean", "cls" or "last"
        Of the last hidden layer; "last" is the last token that is no padding (causal models).
    max_length : int, optional
        Tokens read of a text; 512, or what the model has room for, if not given.
    dtype : "float32", "bfloat16", "float16" or "auto"
        "auto" is bfloat16 on CUDA and on processors with AMX or AVX-512 bf16 (measured on the latter: 3 times
        the speed at cosine 0.9999), float32 elsewhere.
    revision : str, optional
        Commit of a model by name; pin it.
    chat_template : bool
        Compose by the tokenizer's chat template (user: prompt, assistant: response).
    normalize : bool
        Scale vectors to length 1.
    name : str, optional
        As shown; the folder's or model's name when not given.
    local_files_only : bool
        Never ask the network.
    device : str, optional
        "cuda" where there is one, else "cpu".
    token_budget : int, optional
        Padded tokens per batch; `default_budget` of the device if not given.

    Raises
    ------
    LearnerError
        A model that is not there, has no safetensors, or an unknown pooling or dtype.
    """

    def __init__(
        self,
        name_or_path: str | Path,
        pooling: Pooling = "mean",
        max_length: int | None = None,
        dtype: str = "auto",
        revision: str | None = None,
        chat_template: bool = False,
        *,
        normalize: bool = True,
        name: str | None = None,
        local_files_only: bool = False,
        device: str | None = None,
        token_budget: int | None = None,
    ) -> None:
        if pooling not in ("mean", "cls", "last"):
            raise LearnerError(f"pooling is mean, cls or last, not {pooling!r}")
        self.name = name or Path(str(name_or_path)).name
        self.pooling, self.normalize = pooling, normalize
        self.chat_template = chat_template
        self.device = device or _default_device()
        self.dtype = _dtype_name(dtype, self.device)
        self.token_budget = token_budget or default_budget(self.device)
        self.tokens_read = 0
        self.folder = model_folder(name_or_path, revision, local_files_only)
        self._tokenizer, self._model = _load(self.folder, self.dtype, self.device)
        self.dimension = int(self._model.config.get_text_config().hidden_size)
        self.max_length = self._fitting(max_length)
        if chat_template and not self._tokenizer.chat_template:
            raise LearnerError(f"{self.name} has no chat template; turn the option off")

    def _fitting(self, asked: int | None) -> int:
        """The tokens to read, refusing more than there are positions for."""
        room = getattr(self._model.config.get_text_config(), "max_position_embeddings", None) or 1 << 20
        if asked is None:
            return int(min(512, room, self._tokenizer.model_max_length))
        if not 1 <= asked <= room:
            raise LearnerError(f"{self.name} reads 1 to {room:,} tokens of a text, not {asked:,}")
        return asked

    @property
    def pinned(self) -> dict[str, str]:
        """Choices that were left to this machine or the hub: pass them on, and every worker makes the same vectors."""
        found = {"dtype": self.dtype}
        return found | ({"revision": self.folder.name} if self.folder.parent.name == "snapshots" else {})

    @cached_property
    def digest(self) -> str:
        """Bound to weights, tokenizer and every choice that changes a vector; not to batch size or device."""
        files = sorted(
            [*self.folder.glob("*.safetensors"), *self.folder.glob("*.json"), *self.folder.glob("*.jinja")]
        )
        contents = [(path.name, file_sha256(path)) for path in files]
        options = (self.pooling, self.max_length, self.dtype, self.chat_template, self.normalize)
        return digest_of("transformer", contents, options, COMPOSE_VERSION)

    def compose(self, prompt: str, response: str) -> str:
        """Join by `compose`, and by the model's chat template when that was asked for."""
        text = compose(prompt, response, self.max_length)
        if not self.chat_template:
            return text
        end = compose(prompt, "", self.max_length)
        turns = [
            {"role": "user", "content": end.removesuffix("\n\n")},
            {"role": "assistant", "content": text.removeprefix(end)},
        ]
        return str(self._tokenizer.apply_chat_template(turns, tokenize=False))

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> FloatArray:
        """Return one row per text, in order. O(tokens x model), batched by length.

        Parameters
        ----------
        texts : sequence of str
        progress : callable, optional
            Called with (texts done, texts in all) after every batch.
        """
        result = np.empty((len(texts), self.dimension), np.float32)
        done = 0
        for start in range(0, len(texts), _WINDOW):
            tokens = self._tokens(texts[start : start + _WINDOW])
            self.tokens_read += sum(map(len, tokens))
            for batch in batches_by_length([len(ids) for ids in tokens], self.token_budget):
                result[start + batch] = self._forward([tokens[i] for i in batch])
                done += len(batch)
                if progress is not None:
                    progress(done, len(texts))
        return result

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self._tokenizer(
            list(texts),
            truncation=True,
            max_length=self.max_length,
            add_special_tokens=not self.chat_template,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        filler = self._tokenizer.pad_token_id or 0
        return [ids or [filler] for ids in encoded]

    def _forward(self, batch: Sequence[Sequence[int]]) -> FloatArray:
        import torch

        pooled = forward(self._model, batch, self.pooling, self.device)
        pooled = torch.nn.functional.normalize(pooled, dim=1) if self.normalize else pooled
        return np.asarray(pooled.float().cpu().numpy())


def forward(model: Any, batch: Sequence[Sequence[int]], pooling: Pooling, device: str) -> torch.Tensor:
    """One vector per text of a batch of tokens, on the device. O(n t model), t the longest.

    Padding goes to the right: masked out of attention, it cannot change the tokens before it, and positions count
    from 0 for causal models too.
    """
    import torch

    width = max(map(len, batch))
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(batch):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    mask = mask.to(device)
    with torch.inference_mode():
        return pool(model(input_ids=ids.to(device), attention_mask=mask).last_hidden_state, mask, pooling)


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """One vector per text from the last hidden layer. O(n t d).

    Parameters
    ----------
    hidden : (n, t, d) tensor
    mask : (n, t) tensor
        1 at tokens, 0 at padding, on whichever side.
    pooling : "mean", "cls" or "last"
        Mean over tokens, first token, last token.

    Examples
    --------
    >>> import torch
    >>> hidden, mask = torch.tensor([[[9.0], [1.0], [3.0]]]), torch.tensor([[0, 1, 1]])
    >>> [pool(hidden, mask, kind).item() for kind in ("mean", "cls", "last")]
    [2.0, 1.0, 3.0]
    """
    import torch

    hidden = hidden.float()
    if pooling == "mean":
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1)
    position = torch.arange(mask.shape[1], device=mask.device)
    if pooling == "cls":
        chosen = torch.where(mask > 0, position, mask.shape[1]).argmin(dim=1)
    else:
        chosen = torch.where(mask > 0, position, -1).argmax(dim=1)
    return hidden[torch.arange(len(hidden), device=hidden.device), chosen]


def model_folder(name_or_path: str | Path, revision: str | None, local_files_only: bool) -> Path:
    """The folder of a model: itself, or the hub's snapshot, fetched when it is not in the cache.

    Raises
    ------
    LearnerError
        Nothing there, or weights that are no safetensors.
    """
    folder = Path(name_or_path)
    if not folder.is_dir():
        folder = _snapshot(str(name_or_path), revision, local_files_only)
    if not any(folder.glob("*.safetensors")):
        raise LearnerError(f"{folder} holds no safetensors weights; other formats are not read")
    return folder


def _snapshot(name: str, revision: str | None, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
    try:
        return Path(
            snapshot_download(
                name, revision=revision, local_files_only=local_files_only, allow_patterns=patterns
            )
        )
    except (OSError, ValueError) as error:
        raise LearnerError(_why_not(name, revision, error)) from error


def _why_not(name: str, revision: str | None, error: Exception) -> str:
    """One sentence: what kept a model from being fetched, and what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"{name} is open only to those who accepted its terms: accept them and set HF_TOKEN for the workers"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name} has no revision {revision!r} on the hub"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub knows no model {name!r}, or only for those who set HF_TOKEN"
    if isinstance(error, errors.HFValidationError | FileNotFoundError) and not isinstance(
        error, errors.LocalEntryNotFoundError
    ):
        return f"encoder {name!r} is neither a folder here nor a name that a hub could know"
    return (
        f"encoder {name!r} is neither a folder here nor in the cache, and no hub can be reached from this machine: "
        "put the model's folder into the models folder, or let the worker reach the hub"
    )


def _load(folder: Path, dtype: str, device: str) -> tuple[Any, Any]:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # a log is no terminal
    _set_threads_once()
    fixed = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **fixed)
        model = AutoModel.from_pretrained(
            folder, dtype=getattr(torch, dtype), use_safetensors=True, **_placed(device), **fixed
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise LearnerError(f"could not load the encoder in {folder}: {error}") from error
    return tokenizer, model.eval().requires_grad_(False).to(device)


def _placed(device: str) -> dict[str, Any]:
    # Weights go straight to the GPU where accelerate is there: 16 GB need not fit into the machine's memory first.
    from importlib.util import find_spec

    return {"device_map": {"": device}} if device.startswith("cuda") and find_spec("accelerate") else {}


_threads_set = False


def _set_threads_once() -> None:
    # One embedding process per machine uses every core; changing the count while torch runs is unsafe.
    global _threads_set
    if not _threads_set:
        import torch

        asked = os.environ.get("OMP_NUM_THREADS", "")
        torch.set_num_threads(int(asked) if asked.isdecimal() and int(asked) else _processors())
        _threads_set = True


def _processors() -> int:
    # A container may be given fewer processors than the machine has; not every system can say which.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_budget(device: str) -> int:
    """Padded tokens a batch: what fills a GPU; on a processor, what its caches hold (4,096 took 14 % more time)."""
    return 65_536 if device.startswith("cuda") else 1_024


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _dtype_name(dtype: str, device: str) -> str:
    import torch

    names = ("float32", "bfloat16", "float16")
    if dtype == "auto":
        processor = torch.cpu.get_capabilities()
        fast = processor.get("amx_bf16") or processor.get("avx512_bf16")
        return "bfloat16" if device.startswith("cuda") or fast else "float32"
    if dtype not in names:
        raise LearnerError(f"dtype is auto, {', '.join(names)}, not {dtype!r}")
    return dtype
