"""Markdown of unknown origin -> HTML that is safe to show, in bounded time.

markdown-it parses with HTML off; mathematics becomes MathML, code gets Pygments' classes; and whatever came out
passes nh3's allow-list, which is the one thing that safety rests on. No image is ever loaded (a picture's address
would tell its owner who is reading); links open elsewhere and tell nothing. Texts that would take long are shown
as they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache

import nh3
from django.core.cache import cache as store
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from mdit_py_plugins.amsmath import amsmath_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.token import STANDARD_TYPES

from annotate.mathematics import backslash_math, mathml

VERSION = "2"  # Raise it when the same text should come out differently, so that no old rendering is served.
LONGEST = 100_000
LONGEST_CODE = 30_000
LONGEST_LINE = 20_000
# What costs more than linear time in a Markdown parser when there is a lot of it.
MOST = (
    dict.fromkeys("[$", 1_500)
    | dict.fromkeys("`<~!", 3_000)
    | dict.fromkeys("*_\\", 6_000)
    | {"\\begin": 150}
)
TOO_DEEP = re.compile(r"^(?:[ \t]*(?:>|[-*+]|\d{1,9}[.)])){40}", re.MULTILINE)
KEPT_SECONDS = 24 * 3600

# Languages whose lexers are known to be quick; a fence that names another is shown without colours.
QUICK_LEXERS = """
    bash c c++ clojure cpp csharp css dart diff docker dockerfile elixir erlang fortran go golang graphql haskell
    html ini java javascript js json jsx julia kotlin latex lua make makefile matlab nginx objective-c ocaml perl
    php powershell python py python3 r rb ruby rs rust scala scheme sh shell sql swift tex toml ts tsx typescript
    xml yaml yml zig
"""
TEXT_TAGS = """
    a blockquote br code dd del div dl dt em h3 h4 h5 h6 hr li ol p pre s span strong sub sup table tbody td th
    thead tr ul
"""
MATH_TAGS = """
    math menclose mfrac mi mmultiscripts mn mo mover mpadded mphantom mprescripts mroot mrow ms mspace msqrt mstyle
    msub msubsup msup mtable mtd mtext mtr munder munderover none
"""
LANGUAGES = frozenset(QUICK_LEXERS.split())
MATH_ATTRIBUTES = {
    "display", "displaystyle", "scriptlevel", "mathvariant", "stretchy", "fence", "form", "separator", "lspace",
    "rspace", "linethickness", "columnalign", "rowspacing", "columnspacing", "columnlines", "rowlines", "frame",
    "width", "height", "depth", "voffset", "minsize", "maxsize", "symmetric", "largeop", "movablelimits", "accent",
    "accentunder", "notation",
}  # fmt: skip
ATTRIBUTES = dict.fromkeys(MATH_TAGS.split(), MATH_ATTRIBUTES) | {
    "a": {"href", "title"},
    "ol": {"start"},
    "pre": {"tabindex", "data-language"},
    "div": {"tabindex"},
    "span": {"tabindex"},
}
CLASSES = {
    "span": {name for name in STANDARD_TYPES.values() if name} | {"math", "display"},
    "div": {"math", "table-scroll"},
    "pre": {"code", "plain"},
    "td": {"left", "center", "right"},
    "th": {"left", "center", "right"},
    "a": {"picture"},
}


def markdown(text: str) -> SafeString:
    """The text as safe HTML; rendered once per content, whoever asks."""
    key = f"markdown:{VERSION}:{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()}"
    html: str | None = store.get(key)
    if html is None:
        html = render(text)
        if len(html) <= 4 * LONGEST:
            store.set(key, html, KEPT_SECONDS)
    return mark_safe(html)  # noqa: S308 - it comes out of nh3, or it is escaped


def render(text: str) -> str:
    """Parse, then sanitise; a text that is too much for the parser is shown as it is."""
    text = text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
    if is_too_much(text):
        return as_it_is(text)
    try:
        return clean(parser().render(text))
    except (RecursionError, ValueError, IndexError, KeyError):
        return as_it_is(text)


def as_it_is(text: str) -> str:
    return f'<pre class="plain">{escape(text)}</pre>'


def is_too_much(text: str) -> bool:
    """Whether parsing could take longer than a person would wait: length, and counts of what nests or pairs."""
    if len(text) > LONGEST or any(text.count(mark) > most for mark, most in MOST.items()):
        return True
    if max(map(len, text.split("\n"))) > LONGEST_LINE:
        return True
    return TOO_DEEP.search(text) is not None


def clean(html: str) -> str:
    """Keep what is on the lists above and nothing else."""
    return cleaner().clean(html)


@cache
def cleaner() -> nh3.Cleaner:
    """Made once: reading the lists takes longer than cleaning a text by them."""
    return nh3.Cleaner(
        tags={*TEXT_TAGS.split(), *MATH_TAGS.split()},
        attributes=ATTRIBUTES,
        allowed_classes=CLASSES,
        url_schemes={"http", "https", "mailto"},
        url_relative="deny",
        link_rel="nofollow noopener noreferrer",
        set_tag_attribute_values={"a": {"target": "_blank"}},
        clean_content_tags={"script", "style"},
    )


@cache
def parser() -> MarkdownIt:
    """CommonMark with tables and strikethrough, line breaks kept, HTML off, mathematics and colours on."""
    md = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": 60})
    md.enable(["table", "strikethrough"])
    md.use(
        dollarmath_plugin, allow_labels=False, allow_space=False, allow_digits=False, double_inline=True,
        renderer=lambda source, options: mathml(source, display=options["display_mode"]),
    )  # fmt: skip
    md.use(amsmath_plugin)
    md.use(backslash_math)
    md.add_render_rule("math_block", display_of_its_own)
    md.add_render_rule("amsmath", display_of_its_own)
    md.add_render_rule("math_inline_double", display_in_a_line)
    md.core.ruler.push("fit_the_page", fit_the_page)
    md.add_render_rule("image", picture_link)
    md.add_render_rule("fence", code_block)
    md.add_render_rule("code_block", code_block)
    md.add_render_rule("table_open", lambda *_: '<div class="table-scroll" tabindex="0"><table>\n')
    md.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return md


def fit_the_page(state: StateCore) -> None:
    """Headings go below the page's own; a cell's alignment becomes a class, as inline style is not allowed."""
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
        elif token.type in ("th_open", "td_open") and (style := token.attrGet("style")):
            token.attrs = {"class": str(style).removeprefix("text-align:")}


def display_of_its_own(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    """It scrolls sideways where it is wide, so that the keyboard must reach it, as it does code and tables."""
    return f'<div class="math" tabindex="0">\n{mathml(tokens[index].content.strip(), display=True)}\n</div>\n'


def display_in_a_line(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    """A span, as the plugin's div may not stand in a paragraph."""
    return f'<span class="math display" tabindex="0">{mathml(tokens[index].content, display=True)}</span>'


def picture_link(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    """A link in place of the picture, which is never loaded."""
    token = tokens[index]
    alt = renderer.renderInlineAsText(token.children or [], options, env) or "picture"
    return f'<a class="picture" href="{escape(token.attrGet("src") or "")}">{escape(alt)}</a>'


def code_block(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    token = tokens[index]
    language = (token.info.split() or [""])[0].lower()
    known = language in LANGUAGES
    label = f' data-language="{language}"' if known else ""
    code = coloured(token.content, language) if known else escape(token.content)
    return f'<pre class="code" tabindex="0"{label}><code>{code}</code></pre>\n'


def coloured(code: str, language: str) -> str:
    """Spans with Pygments' class names; the colours of both themes are in code.css."""
    if len(code) > LONGEST_CODE:
        return escape(code)
    formatted: str = highlight(code, get_lexer_by_name(language, stripnl=False), HtmlFormatter(nowrap=True))
    return formatted
