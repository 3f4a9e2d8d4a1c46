"""Which key does what on the annotator's screen, and which answers there are. A person may choose other keys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.errors import TouchstoneError
from annotate.models import Project, User

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

Keys = dict[str, tuple[str, ...]]

PLAIN: Keys = {
    "left": ("1", "ArrowLeft"),
    "tie": ("3", "0", "ArrowDown"),
    "both_bad": ("4",),
    "right": ("2", "ArrowRight"),
}
GRADED: Keys = {
    "left-3": ("1",),
    "left-2": ("2", "ArrowLeft"),
    "left-1": ("3",),
    "tie": ("4", "0", "ArrowDown"),
    "right-1": ("5",),
    "right-2": ("6", "ArrowRight"),
    "right-3": ("7",),
    "both_bad": ("8",),
}
OTHERS: Keys = {
    "skip": ("s",),
    "undo": ("u",),
    "why": ("w",),
    "criteria": ("c",),
    "earlier": ("e",),
    "prompt": ("p",),
    "differences": ("d",),
    "raw": ("r",),
    "guidelines": ("g",),
    "pause": ("b",),
    "sheet": ("?",),
}
LABELS: dict[str, _StrPromise] = {
    "left": gettext_lazy("A is better"),
    "right": gettext_lazy("B is better"),
    "left-3": gettext_lazy("A is much better"),
    "left-2": gettext_lazy("A is better"),
    "left-1": gettext_lazy("A is slightly better"),
    "tie": gettext_lazy("Tie"),
    "right-1": gettext_lazy("B is slightly better"),
    "right-2": gettext_lazy("B is better"),
    "right-3": gettext_lazy("B is much better"),
    "both_bad": gettext_lazy("Both bad"),
}
SHORT = {
    "left-3": "A++",
    "left-2": "A+",
    "left-1": "A",
    "right-1": "B",
    "right-2": "B+",
    "right-3": "B++",
    "tie": "=",
}
EXPLAINED: dict[str, _StrPromise] = {
    "tie": gettext_lazy("Tie (↓ only while the whole pair is in view; otherwise it scrolls)"),
    "skip": gettext_lazy("Skip: choose a reason by its number"),
    "undo": gettext_lazy("Undo the last answer or skip"),
    "why": gettext_lazy("Say why, report a problem; Escape leaves the field"),
    "criteria": gettext_lazy("Criteria: 1 is A, 2 is no difference, 3 is B"),
    "earlier": gettext_lazy("Your earlier answers"),
    "prompt": gettext_lazy("Fold or unfold a long prompt"),
    "differences": gettext_lazy("Mark what differs between A and B"),
    "raw": gettext_lazy("Raw text"),
    "guidelines": gettext_lazy("Guidelines"),
    "pause": gettext_lazy("Take a break"),
    "sheet": gettext_lazy("This sheet"),
}
SIGNS = {"ArrowLeft": "←", "ArrowRight": "→", "ArrowDown": "↓"}


@dataclass(frozen=True)
class Choice:
    """An answer as the screen offers it."""

    value: str
    label: _StrPromise
    short: str
    key: str
    keys: tuple[str, ...]

    @property
    def side(self) -> str:
        return self.value.partition("-")[0].replace("_", "-")


def offered(project: Project) -> Keys:
    """The default keys of everything that the project's screen can do."""
    answers = GRADED if project.ask_strength else PLAIN
    refused = {"tie": project.allow_tie, "both_bad": project.allow_both_bad}
    others = {"criteria": bool(project.criteria), "guidelines": bool(project.guidelines)}
    return {
        action: keys for action, keys in (answers | OTHERS).items() if (refused | others).get(action, True)
    }


def keys_of(project: Project, user: User) -> Keys:
    """The keys of this person on this project's screen; a chosen key stands in the place of the first default."""
    return chosen_over(offered(project), user.keys)


def chosen_over(defaults: Keys, chosen: Mapping[str, str]) -> Keys:
    taken = {key for action, key in chosen.items() if action in defaults}
    found = {}
    for action, keys in defaults.items():
        rest = tuple(key for key in keys[action in chosen :] if key not in taken)
        found[action] = ((chosen[action],) if action in chosen else ()) + rest
    return found


def choices(project: Project, user: User) -> list[Choice]:
    """The answers in the order of the screen."""
    found = keys_of(project, user)
    return [
        Choice(action, LABELS[action], SHORT.get(action, ""), next(iter(found[action]), ""), found[action])
        for action in (GRADED if project.ask_strength else PLAIN)
        if action in found
    ]


def by_key(keys: Keys) -> dict[str, str]:
    return {key: action for action, found in keys.items() for key in found}


def sheet(keys: Keys) -> list[tuple[list[str], str]]:
    """The lines of the key sheet: signs of the keys, and what they do."""
    return [
        ([SIGNS.get(key, key) for key in found], str(EXPLAINED.get(action) or LABELS[action]))
        for action, found in keys.items()
    ]


def checked(chosen: Mapping[str, str]) -> dict[str, str]:
    """A person's own keys, or a sentence about the first that cannot be: no key may do two things."""
    known = PLAIN | GRADED | OTHERS
    kept = {action: key.lower() for action, key in chosen.items() if action in known and key}
    for key in kept.values():
        if len(key) != 1 or not key.isprintable() or key.isspace():
            raise TouchstoneError(_("“{key}” is not one key that can be typed.").format(key=key[:20]))
    for layout in (PLAIN | OTHERS, GRADED | OTHERS):
        check_once(layout, kept)
    return kept


def check_once(layout: Keys, kept: Mapping[str, str]) -> None:
    does = defaultdict(list)
    for action, defaults in layout.items():
        does[kept.get(action, defaults[0])].append(action)
    for key, actions in does.items():
        if len(actions) > 1:
            names = ", ".join(str(LABELS.get(action) or EXPLAINED[action]) for action in actions)
            raise TouchstoneError(_("“{key}” would do two things: {names}.").format(key=key, names=names))
