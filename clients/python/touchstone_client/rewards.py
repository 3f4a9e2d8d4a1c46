"""The reward model in training loops: TRL's reward functions, and best of N."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from touchstone_client.client import Client
from touchstone_client.models import Best, PromptText, Reward

By = Literal["reward", "low"]


class RewardFunction:
    """``GRPOTrainer(reward_funcs=[RewardFunction(client, "my-project")], ...)``.

    Called with ``prompts`` and ``completions``, as texts or as conversations, and whatever else the trainer passes.
    ``by="low"`` gives the lower limit of each reward: what the model has not learned about is then not rewarded.
    """

    def __init__(self, client: Client, project: str, by: By = "reward") -> None:
        self.client, self.project, self.by = client, project, by
        self.__name__ = f"touchstone_{project}".replace("-", "_")

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float]:
        items = [
            (prompt_of(prompt), text_of(completion))
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        return [value_of(reward, self.by) for reward in self.client.score(self.project, items)]


def best_of_n(
    client: Client,
    project: str,
    prompt: PromptText,
    sample: Callable[[], str],
    n: int = 8,
    how: Literal["greedy", "averaged", "pessimistic"] = "greedy",
) -> tuple[str, Best]:
    """Draw n responses and keep the one that the reward model likes best; the rewards of all come along."""
    responses = [sample() for _ in range(n)]
    best = client.best_of(project, prompt, responses)
    return responses[best.chosen[how].index], best


def value_of(reward: Reward, by: By) -> float:
    return reward.reward if by == "reward" else reward.low


def prompt_of(prompt: Any) -> PromptText:
    """A prompt as the API takes it: a text, or messages with their role and content only."""
    if isinstance(prompt, str):
        return prompt
    return [{"role": str(message["role"]), "content": str(message["content"])} for message in prompt]


def text_of(completion: Any) -> str:
    """A completion's text; of a conversation, what the assistant said."""
    if isinstance(completion, str):
        return completion
    return "\n\n".join(str(message["content"]) for message in completion)
