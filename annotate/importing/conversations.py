"""Prompts in every form people keep them in: a text, messages, a transcript with Human: and Assistant:."""

from __future__ import annotations

import re
from typing import Any

from annotate.errors import TouchstoneError
from annotate.importing.texts import kind, text_of

Message = dict[str, str]
MOST_MESSAGES = 1_000
ROLES = {
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "system": "system",
    "developer": "developer",
    "tool": "tool",
}
TURN = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
TRANSCRIPT = re.compile(r"\s*Human: ?")
OPEN_TRANSCRIPT = re.compile(r"\s*Human: .*\n\nAssistant:\s*\Z", re.DOTALL)


def prompt_messages(value: Any, name: str = "prompt") -> list[Message]:
    """A prompt as messages that end before the response."""
    if isinstance(value, str) and OPEN_TRANSCRIPT.match(value):
        return transcript(value.rstrip().removesuffix("Assistant:"), name)
    if not isinstance(value, list):
        return [{"role": "user", "content": text_of(value, name)}]
    messages = messages_of(value, name)
    if messages[-1]["role"] == "assistant":
        raise TouchstoneError(f"{name} ends with the assistant's message.", code="conversation")
    return messages


def messages_of(value: list[Any], name: str) -> list[Message]:
    """Messages with role and content, as TRL and most others have them, or with from and value (ShareGPT)."""
    if not value or len(value) > MOST_MESSAGES:
        raise TouchstoneError(
            f"{name} has {len(value):,} messages; 1 to {MOST_MESSAGES:,} fit.", code="empty"
        )
    return [message_of(part, f"message {i} of {name}") for i, part in enumerate(value, 1)]


def message_of(value: Any, name: str) -> Message:
    if not isinstance(value, dict):
        raise TouchstoneError(f"{name} is {kind(value)}, not an object.", code="type")
    role = value.get("role", value.get("from"))
    if not isinstance(role, str) or role.lower() not in ROLES:
        raise TouchstoneError(f"{name} has the unknown role {str(role)[:40]!r}.", code="conversation")
    content = value.get("content", value.get("value"))
    return {"role": ROLES[role.lower()], "content": text_of(joined(content), name)}


def joined(content: Any) -> Any:
    """The text of content that comes in parts; anything but text parts stays, and is refused as not a text."""
    if isinstance(content, list) and all(isinstance(part, dict) and "text" in part for part in content):
        return "\n\n".join(str(part["text"]) for part in content)
    return content


def response_text(value: Any, name: str) -> str:
    """A response as a text, or as a conversation of one assistant message."""
    if not isinstance(value, list):
        return text_of(value, name)
    messages = messages_of(value, name)
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise TouchstoneError(f"{name} is not one message of the assistant.", code="conversation")
    return messages[0]["content"]


def transcript(text: str, name: str) -> list[Message]:
    """The turns of a text that is written as Human: ... Assistant: ..."""
    parts = TURN.split(text.strip())[1:]
    turns = zip(parts[::2], parts[1::2], strict=True)
    return [
        {"role": ROLES[who.lower()], "content": text_of(what.strip(), name)}
        for who, what in turns
        if what.strip()
    ]


def split(chosen: Any, rejected: Any) -> tuple[list[Message], str, str]:
    """The prompt that two answers share, when each was given together with its prompt."""
    if isinstance(chosen, list) and isinstance(rejected, list):
        return split_messages(messages_of(chosen, "chosen"), messages_of(rejected, "rejected"))
    chosen, rejected = text_of(chosen, "chosen"), text_of(rejected, "rejected")
    if TRANSCRIPT.match(chosen) and TRANSCRIPT.match(rejected):
        return split_transcripts(chosen, rejected)
    return split_texts(chosen, rejected)


def split_messages(a: list[Message], b: list[Message]) -> tuple[list[Message], str, str]:
    shared, last_a, last_b = a[:-1], a[-1], b[-1]
    if shared != b[:-1] or last_a["role"] != "assistant" or last_b["role"] != "assistant":
        raise TouchstoneError("the two conversations part before the last answer.", code="conversation")
    if not shared:
        raise TouchstoneError("there is no prompt before the two answers.", code="empty")
    return shared, last_a["content"], last_b["content"]


def split_transcripts(a: str, b: str) -> tuple[list[Message], str, str]:
    shared = a[: shared_length(a, b)]
    cut = shared.rfind("\n\nAssistant:")
    if cut < 0:
        raise TouchstoneError("the two transcripts have no prompt in common.", code="conversation")
    answers = [text[cut:].removeprefix("\n\nAssistant:").strip() for text in (a, b)]
    if any("\n\nHuman:" in answer for answer in answers):
        raise TouchstoneError("the two transcripts part before the last answer.", code="conversation")
    prompt = transcript(shared[:cut], "prompt")
    return prompt, text_of(answers[0], "chosen"), text_of(answers[1], "rejected")


def split_texts(a: str, b: str) -> tuple[list[Message], str, str]:
    """Cut plain texts at the last word boundary of what they share, as TRL's implicit prompt means it."""
    shared = a[: shared_length(a, b)]
    cut = max(shared.rfind(" "), shared.rfind("\n"))
    if cut <= 0 or not shared[:cut].strip():
        raise TouchstoneError("there is no prompt, and the two texts share no beginning.", code="empty")
    prompt = [{"role": "user", "content": shared[:cut].strip()}]
    return prompt, text_of(a[cut:].strip(), "chosen"), text_of(b[cut:].strip(), "rejected")


def shared_length(a: str, b: str) -> int:
    """How many characters two texts have in common at their beginning, by halving."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle - 1)
    return low


def as_text(messages: list[Message]) -> str:
    """The whole prompt as one text: what is searched, and what an encoder reads."""
    if len(messages) == 1 and messages[0]["role"] == "user":
        return messages[0]["content"]
    return "\n\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in messages)


def stored(messages: list[Message]) -> list[Message] | None:
    """What is stored beside the text: nothing, if the prompt is one text of the user's."""
    return None if len(messages) == 1 and messages[0]["role"] == "user" else messages
