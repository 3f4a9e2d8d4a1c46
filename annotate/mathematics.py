r"""LaTeX in texts: \( \) and \[ \] for markdown-it, and every formula to MathML, so that no script is needed.

Formulas that cannot be converted, or are too long for it, are shown as their source.
"""

from __future__ import annotations

import re
from functools import lru_cache
from html import unescape
from xml.etree.ElementTree import tostring

from django.utils.html import escape
from latex2mathml.converter import convert_to_element
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from mdit_py_plugins.utils import is_code_block

LONGEST_FORMULA = 3_000
MOST_BRACES = 400
# What people write -> what latex2mathml knows.
SYNONYMS = [
    (re.compile(r"\\(begin|end)\{(?:aligned|split)\}"), r"\\\1{align*}"),
    (re.compile(r"\\(begin|end)\{gathered\}"), r"\\\1{gather*}"),
    (re.compile(r"\\operatorname\*?(?![a-zA-Z])"), r"\\mathrm"),
]
# How many parts these elements must have; browsers show anything else as an error.
PARTS = dict.fromkeys(["mfrac", "mroot", "msub", "msup", "munder", "mover"], 2) | {
    "msubsup": 3,
    "munderover": 3,
}
CLOSING = {"\\(": "\\)", "\\[": "\\]"}


@lru_cache(maxsize=4096)
def mathml(source: str, *, display: bool) -> str:
    """The formula as MathML, or its source as code where latex2mathml cannot read it."""
    if len(source) > LONGEST_FORMULA or source.count("{") + source.count("\\left") > MOST_BRACES:
        return f"<code>{escape(source)}</code>"
    try:
        return converted(source.strip(), "block" if display else "inline")
    except Exception:  # It raises many kinds of its own, and IndexError or RecursionError on odd input.
        return f"<code>{escape(source)}</code>"


def converted(source: str, display: str) -> str:
    r"""By way of the element tree, because latex2mathml's own text does not escape what is in \text{}."""
    for pattern, known in SYNONYMS:
        source = pattern.sub(known, source)
    element = convert_to_element(source, display=display)
    for part in element.iter():
        if len(part) != PARTS.get(part.tag, len(part)):
            raise ValueError(f"{part.tag} with {len(part)} parts")
        part.text = unescape(part.text) if part.text else part.text
    return tostring(element, encoding="unicode")


def backslash_math(md: MarkdownIt) -> None:
    r"""Understand \( \), and \[ \] both within a paragraph and as a block of its own."""
    md.inline.ruler.before("escape", "backslash_math", inline_math)
    md.block.ruler.before("fence", "backslash_math", block_math, {"alt": ["paragraph", "list", "blockquote"]})


def inline_math(state: StateInline, silent: bool) -> bool:
    opening = state.src[state.pos : state.pos + 2]
    if opening not in CLOSING:
        return False
    end = state.src.find(CLOSING[opening], state.pos + 2, state.pos + 2 + LONGEST_FORMULA)
    content = state.src[state.pos + 2 : end]
    if end < 0 or not content.strip():
        return False
    if not silent:
        token = state.push("math_inline_double" if opening == "\\[" else "math_inline", "math", 0)
        token.content, token.markup = content, opening
    state.pos = end + 2
    return True


def block_math(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    r"""A line that begins with \[ opens a formula up to the line that ends with \], blank lines excepted."""
    if is_code_block(state, start_line) or not line_at(state, start_line).startswith("\\["):
        return False
    last = closing_line(state, start_line, end_line)
    if last is None:
        return False
    if not silent:
        lines = state.getLines(start_line, last + 1, state.blkIndent, False).strip()
        token = state.push("math_block", "math", 0)
        token.block, token.content, token.markup = True, lines[2:-2], "\\["
        token.map = [start_line, last + 1]
        state.line = last + 1
    return True


def closing_line(state: StateBlock, start_line: int, end_line: int) -> int | None:
    for number in range(start_line, end_line):
        line = line_at(state, number)
        if not line or state.sCount[number] < state.blkIndent:
            return None
        if "\\]" in line:
            return number if line.endswith("\\]") and line.count("\\]") == 1 else None
    return None


def line_at(state: StateBlock, number: int) -> str:
    return state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]].strip()
