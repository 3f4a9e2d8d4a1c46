"""Texts of unknown origin become HTML that is safe, legible and made in bounded time."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.rendering import ATTRIBUTES, MATH_TAGS, TEXT_TAGS, markdown, render

ALLOWED_TAGS = {*TEXT_TAGS.split(), *MATH_TAGS.split()}

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\nscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:msgbox)",
    "[x](//evil.example/a)",
    "[x](/accounts/logout/)",
    "[x](https://ok.example \"' onmouseover='alert(1)\")",
    "![x](javascript:alert(1))",
    "![<img src=x onerror=alert(1)>](https://tracker.example/pixel.png)",
    '![x](https://tracker.example/pixel.png"onerror="alert(1))',
    "<javascript:alert(1)>",
    "```<img/src=x/onerror=alert(1)>\ncode\n```",
    '```python" onmouseover="alert(1)\ncode\n```',
    "```html\n<script>alert(1)</script>\n```",
    "$\\href{javascript:alert(1)}{x}$",
    "$\\text{<img src=x onerror=alert(1)>}$",
    "$\\style{background:url(javascript:alert(1))}{x}$",
    "$\\class{site-header}{x}$",
    "\\(\\text{</math><script>alert(1)</script>}\\)",
    "\\[<script>alert(1)</script>\\]",
    "$$\n\\begin{matrix}<img src=x onerror=alert(1)>\\end{matrix}\n$$",
    "| a |\n|---|\n| <img src=x onerror=alert(1)> |",
    "[a]: javascript:alert(1)\n\n[a]",
    "<a href='https://x.example' target='_self' onclick='alert(1)'>x</a>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "\x00<script>alert(1)</script>",
    "\ud800<script>alert(1)</script>",
]


class Collected(HTMLParser):
    """Every tag with its attributes, as an HTML parser other than nh3's sees them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def assert_harmless(html: str) -> None:
    for tag, attributes in Collected(html).tags:
        assert tag in ALLOWED_TAGS, tag
        allowed = set(ATTRIBUTES.get(tag, ())) | {"class"} | ({"target", "rel"} if tag == "a" else set())
        assert set(attributes) <= allowed, (tag, attributes)
        assert re.match(r"(https?://|mailto:)", attributes.get("href") or "https://")


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_attack_leaves_anything_that_runs_loads_or_leads_into_the_site(attack: str) -> None:
    assert_harmless(render(attack))
    assert_harmless(render(f"> - **{attack}**"))


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="<>/\"'=&;:()[]{}!$\\`*_~|#-\n abhjmsx", max_size=120))
def test_no_jumble_of_markup_leaves_anything_that_is_not_allowed(text: str) -> None:
    assert_harmless(render(text))


def test_links_open_elsewhere_and_tell_nothing() -> None:
    html = render("[moon](https://moon.example/a?b=c)")
    ((_, link),) = (tag for tag in Collected(html).tags if tag[0] == "a")
    assert link["href"] == "https://moon.example/a?b=c"
    assert link["target"] == "_blank"
    assert link["rel"] == "nofollow noopener noreferrer"


def test_a_picture_is_never_loaded_but_named_and_linked() -> None:
    html = render("![the *tide* table](https://sea.example/t.png)")
    assert "<img" not in html
    assert "the tide table" in html
    assert 'href="https://sea.example/t.png"' in html


def test_code_is_coloured_by_class_and_keeps_its_text() -> None:
    html = render('```python\ndef tide(h): return "<b>"\n```')
    assert '<span class="k">def</span>' in html
    assert 'data-language="python"' in html
    assert "&lt;b&gt;" in html
    assert "style=" not in html


def test_code_in_an_unknown_language_is_shown_plainly() -> None:
    assert "<code>a &lt; b\n</code>" in render("```moonspeak\na < b\n```")


@pytest.mark.parametrize(
    "source",
    [
        "$x^2$",
        "$$x^2$$",
        "\\(x^2\\)",
        "\\[x^2\\]",
        "\\[\nx^2\n\\]",
        "$$\nx^2\n$$",
        "so \\[ x^2 \\] holds",
        "a $$x^2$$ b",
    ],
)
def test_mathematics_in_every_delimiter_becomes_mathml(source: str) -> None:
    html = render(source)
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in html
    assert "$" not in html
    assert "\\" not in html


def test_aligned_equations_line_up() -> None:
    html = render("\\begin{align*}\na &= b \\\\\nc &= d\n\\end{align*}")
    assert html.count("<mtr>") == 2
    assert render("$\\begin{aligned}a&=b\\\\c&=d\\end{aligned}$").count("<mtr>") == 2


@pytest.mark.parametrize(
    "source", ["$$\nx^2\n$$", "\\[\nx^2\n\\]", "\\begin{align}\nx^2\n\\end{align}", "so \\[ x^2 \\] holds"]
)
def test_mathematics_that_may_scroll_is_reached_by_keyboard(source: str) -> None:
    (found,) = (
        found for _tag, found in Collected(render(source)).tags if "math" in (found.get("class") or "")
    )
    assert found["tabindex"] == "0"


def test_prices_are_not_mathematics() -> None:
    assert "<math" not in render("It costs $5 in May and $10 in June, or US$7.")


def test_a_formula_that_cannot_be_read_is_shown_as_its_source() -> None:
    assert "<code>\\frac{1</code>" in render("$\\frac{1$")


def test_lines_tables_and_strikethrough_come_out_as_chat_users_expect() -> None:
    html = render("one\ntwo\n\n| a | b |\n|:--|--:|\n| 1 | 2 |\n\n~~three~~")
    assert "one<br>" in html
    assert '<td class="left">1</td>' in html
    assert '<td class="right">2</td>' in html
    assert "<s>three</s>" in html


def test_headings_stay_below_those_of_the_page() -> None:
    assert "<h3>A</h3>" in render("# A")
    assert "<h6>B</h6>" in render("###### B")


SLOW = {
    "a megabyte": "word " * 200_000,
    "brackets": "[" * 50_000,
    "allowed brackets": "[" * 1_500,
    "links": "[a](" * 1_500,
    "dollars": "$" * 50_000,
    "allowed dollars": "$a " * 1_500,
    "stars": "*a **b " * 5_000,
    "backticks": "".join("`" * i + " " for i in range(70)),
    "quotes": (">" * 5_000 + "a\n") * 10,
    "allowed quotes": (">" * 39 + "a\n") * 1_000,
    "lists": "".join("  " * i + "- a\n" for i in range(300)),
    "markers": "- " * 5_000,
    "environments": "\\begin{align}\n" * 5_000,
    "nested fractions": "$" + "\\frac{" * 390 + "1" + "}" * 390 + "$",
    "nested scripts": "$" + "x^{" * 390 + "$",
    "matrices": "$" + "\\begin{matrix}" * 190 + "$",
    "wide table": "|" + "a|" * 9_000 + "\n|" + "-|" * 9_000 + "\n",
    "unclosed code": "```html\n" + "<" * 90_000,
    "pictures": "![" * 1_400,
    "one long line": "a" * 90_000,
}


@pytest.mark.parametrize("name", SLOW)
def test_a_hostile_text_is_rendered_in_bounded_time(name: str) -> None:
    started = time.process_time()
    html = render(SLOW[name])
    assert time.process_time() - started < 3.0
    assert_harmless(html[:50_000])


def test_a_text_beyond_the_limits_is_shown_as_it_is() -> None:
    html = render("<b>" + "word " * 200_000)
    assert html.startswith('<pre class="plain">&lt;b&gt;word')


def test_the_same_text_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"seen at {time.time()}"
    first = markdown(text)
    monkeypatch.setattr("annotate.rendering.render", lambda text: pytest.fail("parsed again"))
    assert markdown(text) == first
