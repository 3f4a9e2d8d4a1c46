"""Encoders as projects name them: those that are offered, any model of a hub, any folder of models; and their options.

The site never loads an encoder: names and options are checked here, and the worker that loads the model says the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

NAMES = (
    "all-MiniLM-L6-v2",
    "hashing",
    "Qwen/Qwen2.5-7B-Instruct",
    "meta-llama/Meta-Llama-3-8B-Instruct",
)
"""Offered by name; a test holds them equal to the learner's."""
AS_THEY_ARE = ("all-MiniLM-L6-v2", "hashing")
POOLINGS = ("mean", "cls", "last")
DTYPES = ("bfloat16", "float16", "float32")
OPTIONS = ("pooling", "max_length", "dtype", "chat_template", "normalize", "revision")
SHORTEST, LONGEST = 8, 32_768

_HUB = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_FOLDER = re.compile(r"models(/[A-Za-z0-9][\w.-]{0,95}){1,3}", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,99}", re.ASCII)


def is_on_hub(name: str) -> bool:
    """Whether the name is ``owner/model``; ``models/NAME`` is a folder below the models folder."""
    return "/" in name and not name.startswith("models/")


def problems(name: str, options: Any) -> dict[str, str]:
    """What is wrong with an encoder's name and options, by ``encoder`` or the option's name."""
    found: dict[str, str] = {}
    if sentence := name_problem(name):
        found["encoder"] = sentence
    if not isinstance(options, Mapping):
        return found | {"encoder": _("An encoder's options are names with values.")}
    for option, value in options.items():
        if sentence := option_problem(name, option, value):
            found[option if option in OPTIONS else "encoder"] = sentence
    return found


def name_problem(name: str) -> str:
    if name in NAMES:
        return ""
    pattern = _HUB if is_on_hub(name) else _FOLDER
    if pattern.fullmatch(name) and ".." not in name:
        return ""
    return _(
        "An encoder is one of the list, a model of the hub written owner/model, "
        "or models/NAME for a folder in the models folder."
    )


def option_problem(name: str, option: str, value: Any) -> str:
    if option not in OPTIONS:
        return _("There is no encoder option “{option}”.").format(option=str(option)[:40])
    if name in AS_THEY_ARE:
        return _("{encoder} is used as it is: it takes no options.").format(encoder=name)
    if option == "revision" and not is_on_hub(name):
        return _("Only models of the hub have revisions.")
    return "" if holds(option, value) else refusal(option)


def holds(option: str, value: Any) -> bool:
    if option in ("chat_template", "normalize"):
        return isinstance(value, bool)
    if option == "max_length":
        return isinstance(value, int) and not isinstance(value, bool) and SHORTEST <= value <= LONGEST
    if option == "revision":
        return isinstance(value, str) and bool(_REVISION.fullmatch(value)) and ".." not in value
    return value in (POOLINGS if option == "pooling" else DTYPES)


def refusal(option: str) -> str:
    if option == "max_length":
        return _("Between {least} and {most} tokens are read of a text.").format(
            least=SHORTEST, most=f"{LONGEST:,}"
        )
    if option == "revision":
        return _("A revision is a commit, tag or branch: letters, digits, dots, dashes.")
    if option in ("chat_template", "normalize"):
        return _("This is yes or no.")
    return _("Choose one of {choices}.").format(
        choices=", ".join(POOLINGS if option == "pooling" else DTYPES)
    )
