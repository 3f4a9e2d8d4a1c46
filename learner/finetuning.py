"""Fine-tuning an encoder by the Bradley-Terry likelihood of judgments: its last layers, or a LoRA adapter.

The head starts from the reward that was learned on the frozen encoder, so training begins where the estimator is. What
text columns contribute to a margin is given as an offset and not trained. On CPU and CUDA the code is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from learner.encoders.transformer import HuggingFaceEncoder, pool
from learner.errors import LearnerError

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[np.float64]
Tokens = list[list[int]]
Report = Callable[[int, int, str], bool]
LEAST_PAIRS = 20
LEAST_GAIN = 1e-3  # nats of validation log-loss below which nothing was gained
SOLID = 1e-6  # a fall that is no rounding
MEMORY = 8  # batches whose curvature Algorithm 5 keeps


class Stopped(LearnerError):
    """The report said that training is to end."""


@dataclass(frozen=True)
class Pairs:
    """Judged pairs: composed texts, answers in [0, 1] (a tie is 1/2), prompts, and what is added to each margin."""

    first: Sequence[str]
    second: Sequence[str]
    y: Array
    prompt: npt.NDArray[np.int64]
    offset: Array

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Plan:
    """How to train. ``patience``: epochs without a better validation log-loss before it stops."""

    method: Literal["lora", "layers"] = "lora"
    layers: int = 2
    rank: int = 8
    optimizer: Literal["adamw", "hessian_free"] = "adamw"
    learning_rate: float = 1e-4
    epochs: int = 5
    batch: int = 16
    seed: int = 0
    patience: int = 2
    validation: float = 0.1


@dataclass
class Outcome:
    """Validation log-loss before training and after each epoch, and whether the best was kept."""

    start: float
    epochs: list[float] = field(default_factory=list)
    trained: int = 0
    validated: int = 0

    @property
    def best(self) -> float:
        return min(self.epochs, default=self.start)

    @property
    def improved(self) -> bool:
        return self.best < self.start - LEAST_GAIN


def fine_tune(
    encoder: HuggingFaceEncoder, weight: Array, pairs: Pairs, plan: Plan, folder: Path, report: Report
) -> Outcome:
    """Train, and write the best encoder to `folder` if it beats the one that was there. O(epochs n model).

    Parameters
    ----------
    encoder : HuggingFaceEncoder
        Where to start; its pooling, length limit and scaling are kept.
    weight : (d0,) array
        The reward's weights on the encoder's vector: the head's start.
    pairs : Pairs
        Whole prompts of them are set aside to decide when to stop.
    plan : Plan
    folder : Path
        Safetensors, config and tokenizer are written there; nothing if nothing was gained.
    report : callable
        ``report(done, total, sentence)`` after every batch; False ends training.

    Raises
    ------
    LearnerError
        Too few judgments or prompts, a model without layers to train, or a loss that is not finite.
    Stopped
        The report said so.
    """
    import torch

    torch.manual_seed(plan.seed)
    training, validation = split(pairs, plan)
    network = RewardNetwork(encoder, weight, plan)
    rows = tokenized(encoder, pairs)
    outcome = Outcome(log_loss(network, rows, pairs, validation, plan), [], len(training), len(validation))
    step = stepper(network, plan, len(training))
    best, lowest, waited, done = network.trained(), outcome.start, 0, 0
    total = plan.epochs * -(-len(training) // plan.batch)
    rng = np.random.default_rng(plan.seed)
    for epoch in range(1, plan.epochs + 1):
        for batch in batches(rng.permutation(training), plan.batch):
            step(rows, pairs, batch)
            done += 1
            if not report(done, total, sentence(outcome, epoch)):
                raise Stopped("training was ended")
        outcome.epochs.append(log_loss(network, rows, pairs, validation, plan))
        waited += 1
        if outcome.epochs[-1] < lowest - SOLID:
            best, lowest, waited = network.trained(), outcome.epochs[-1], 0
        if waited >= plan.patience:
            break
    if outcome.improved:
        network.restore(best)
        network.save(folder)
    return outcome


def sentence(outcome: Outcome, epoch: int) -> str:
    """How it is going."""
    now = f", now {outcome.epochs[-1]:.4f}" if outcome.epochs else ""
    return f"Epoch {epoch}: validation log-loss {outcome.start:.4f} before training{now}."


def split(pairs: Pairs, plan: Plan) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices to train on and to validate on; a prompt is on one side only."""
    prompts = np.unique(pairs.prompt)
    if len(pairs) < LEAST_PAIRS or len(prompts) < 4:
        raise LearnerError(
            f"Fine-tuning needs {LEAST_PAIRS} judgments on 4 prompts; there are {len(pairs)} on {len(prompts)}."
        )
    count = max(1, round(plan.validation * len(prompts)))
    kept = np.random.default_rng(plan.seed).permutation(prompts)[:count]
    aside = np.isin(pairs.prompt, kept)
    return np.flatnonzero(~aside), np.flatnonzero(aside)


def batches(order: npt.NDArray[np.int64], size: int) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


def tokenized(encoder: HuggingFaceEncoder, pairs: Pairs) -> tuple[Tokens, Tokens]:
    """Token ids of both sides, cut as the encoder cuts them."""
    return encoder._tokens(pairs.first), encoder._tokens(pairs.second)


class RewardNetwork:
    """Encoder and linear head as one torch module, with what is trained of it."""

    def __init__(self, encoder: HuggingFaceEncoder, weight: Array, plan: Plan) -> None:
        import torch

        self.encoder = encoder
        body = load_body(encoder, plan)
        blocks = layers_of(body)
        if plan.method == "lora":
            body = with_adapter(body, blocks, plan)
        else:
            for part in [*list(blocks)[-plan.layers :], *final_norms(body)]:
                part.requires_grad_(True)
        head = torch.nn.Linear(len(weight), 1, bias=False)
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(weight[None]))
        self.body: Any = body
        self.head: Any = head.to(encoder.device)
        self.module = torch.nn.ModuleDict({"body": self.body, "head": self.head}).eval()

    def rewards(self, tokens: Tokens) -> torch.Tensor:
        """Rewards of token rows, (n,): pooled and scaled as the encoder does."""
        import torch

        ids, mask = padded(tokens, self.encoder.device)
        hidden = self.body(input_ids=ids, attention_mask=mask).last_hidden_state
        vectors = pool(hidden, mask, self.encoder.pooling)
        if self.encoder.normalize:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        rewards: torch.Tensor = self.head(vectors)[:, 0]
        return rewards

    @property
    def parameters(self) -> list[Any]:
        """What is trained."""
        return [part for part in self.module.parameters() if part.requires_grad]

    def trained(self) -> list[Any]:
        """A copy of what is trained, kept in memory."""
        return [part.detach().cpu().clone() for part in self.parameters]

    def restore(self, saved: list[Any]) -> None:
        """Go back to a copy."""
        import torch

        with torch.no_grad():
            for part, value in zip(self.parameters, saved, strict=True):
                part.copy_(value)

    def save(self, folder: Path) -> None:
        """Write encoder and tokenizer; an adapter is merged into the weights first."""
        body = self.body
        if hasattr(body, "merge_and_unload"):
            body = body.merge_and_unload()
        body.save_pretrained(folder)
        self.encoder._tokenizer.save_pretrained(folder)


def load_body(encoder: HuggingFaceEncoder, plan: Plan) -> Any:
    """The encoder's transformer once more, frozen; in float32 unless a GPU trains an adapter beside it."""
    import torch
    from transformers import AutoModel

    is_light = encoder.device.startswith("cuda") and plan.method == "lora" and plan.optimizer == "adamw"
    # Attention kernels that fuse everything cannot be differentiated twice.
    more = {"attn_implementation": "eager"} if plan.optimizer == "hessian_free" else {}
    body = AutoModel.from_pretrained(
        encoder.folder,
        dtype=getattr(torch, encoder.dtype) if is_light else torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        **more,
    )
    return body.eval().requires_grad_(False).to(encoder.device)


def layers_of(body: Any) -> Any:
    """The list of the transformer's layers."""
    import torch

    count = body.config.get_text_config().num_hidden_layers
    for part in body.modules():
        if isinstance(part, torch.nn.ModuleList) and len(part) == count:
            return part
    raise LearnerError(
        f"The layers of a {body.config.model_type} model were not found: it cannot be fine-tuned here."
    )


def final_norms(body: Any) -> list[Any]:
    """The norm after the last layer, where the architecture has one."""
    return [part for name, part in body.named_children() if name in ("norm", "final_layer_norm", "ln_f")]


def with_adapter(body: Any, blocks: Any, plan: Plan) -> Any:
    """Low-rank matrices beside every linear map of the layers (Hu et al. 2021), by peft."""
    import torch
    from peft import LoraConfig, get_peft_model

    inside = {id(part) for part in blocks.modules()}
    targets = [
        name
        for name, part in body.named_modules()
        if isinstance(part, torch.nn.Linear) and id(part) in inside
    ]
    config = LoraConfig(r=plan.rank, lora_alpha=2 * plan.rank, lora_dropout=0.0, target_modules=targets)
    return get_peft_model(body, config)


def padded(tokens: Tokens, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, padded to the right as the encoder pads."""
    import torch

    width = max(map(len, tokens))
    ids = torch.zeros((len(tokens), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, values in enumerate(tokens):
        ids[row, : len(values)] = torch.tensor(values)
        mask[row, : len(values)] = 1
    return ids.to(device), mask.to(device)


Step = Callable[[tuple[Tokens, Tokens], Pairs, npt.NDArray[np.int64]], None]


def stepper(network: RewardNetwork, plan: Plan, count: int) -> Step:
    """What learns one batch."""
    return adamw(network, plan) if plan.optimizer == "adamw" else hessian_free(network, plan, count)


def adamw(network: RewardNetwork, plan: Plan) -> Step:
    """AdamW on the mean loss; an adapter decays towards 0, that is, towards the encoder as it was."""
    import torch

    decay = 0.01 if plan.method == "lora" else 0.0
    optimizer = torch.optim.AdamW(network.parameters, lr=plan.learning_rate, weight_decay=decay)

    def step(rows: tuple[Tokens, Tokens], pairs: Pairs, batch: npt.NDArray[np.int64]) -> None:
        margins = network.rewards([rows[0][i] for i in batch]) - network.rewards([rows[1][i] for i in batch])
        offset, y = (torch.from_numpy(part[batch]).to(margins) for part in (pairs.offset, pairs.y))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(margins + offset, y)
        if not torch.isfinite(loss):
            raise LearnerError("The loss is no longer finite; train with a smaller learning rate.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters, 1.0)
        optimizer.step()

    return step


def hessian_free(network: RewardNetwork, plan: Plan, count: int) -> Step:
    """Algorithm 5: conjugate gradients on Hessian-vector products."""
    import torch

    from learner.estimators import HessianFreeModule

    def reward(inputs: tuple[Tokens, Any]) -> Any:
        return network.rewards(inputs[0]) + inputs[1]

    learner = HessianFreeModule(
        network.module, reward, total=plan.epochs * count, memory=MEMORY, seed=plan.seed
    )

    def step(rows: tuple[Tokens, Tokens], pairs: Pairs, batch: npt.NDArray[np.int64]) -> None:
        device = network.encoder.device
        offset, y = (torch.from_numpy(part[batch]).float().to(device) for part in (pairs.offset, pairs.y))
        first, second = ([rows[side][i] for i in batch] for side in (0, 1))
        learner.learn_batch((first, offset), (second, torch.zeros_like(offset)), y)

    return step


def log_loss(
    network: RewardNetwork,
    rows: tuple[Tokens, Tokens],
    pairs: Pairs,
    chosen: npt.NDArray[np.int64],
    plan: Plan,
) -> float:
    """Mean log-loss of some pairs, nothing learned."""
    import torch

    losses = 0.0
    with torch.no_grad():
        for batch in batches(chosen, plan.batch):
            margins = network.rewards([rows[0][i] for i in batch]) - network.rewards(
                [rows[1][i] for i in batch]
            )
            offset, y = (torch.from_numpy(part[batch]).to(margins) for part in (pairs.offset, pairs.y))
            losses += float(
                torch.nn.functional.binary_cross_entropy_with_logits(margins + offset, y, reduction="sum")
            )
    if not np.isfinite(losses):
        raise LearnerError("The validation log-loss is no longer finite; train with a smaller learning rate.")
    return losses / len(chosen)
