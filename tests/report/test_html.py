"""The page is one inert file: whatever its data holds, no script runs but ours and nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from midsession.report.html import picture, render
from midsession.report.model import view
from tests.report.crowd import INFO, crowd, verdict_on

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]><svg onload=alert(1)>",
    "\"'><img src=x onerror=alert(1)>",
    "{{ 7*7 }}{% include '/etc/passwd' %}",
    "\u2028\u2029</SCRIPT\t>",
    "</title><base href=//evil.example>",
    "</details></section></main><iframe src=//evil.example>",
    "\x00\x1b[31m\x9b\u202e",
    "&lt;script&gt;&#60;script&#62;",
]


class Page(HTMLParser):
    """The elements of a page, and the texts of its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.raw: list[tuple[dict[str, str | None], str]] = []
        self._in_raw = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        if tag in ("script", "style"):
            self.raw.append((dict(attrs), ""))
            self._in_raw = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._in_raw = False

    def handle_data(self, data: str) -> None:
        if self._in_raw:
            attrs, text = self.raw[-1]
            self.raw[-1] = (attrs, text + data)


def page_of(said: str, clients: int = 3) -> str:
    history = crowd(clients, said=said)
    return render(view(history, verdict_on(history, said), {**INFO, "testbed": said}, replay=said))


@pytest.mark.parametrize("said", HOSTILE)
def test_hostile_bytes_change_nothing_of_the_page(said: str) -> None:
    """The same elements with the same attributes' names as for a harmless text; the data intact."""
    harmless, hostile = Page(page_of("Hi")), Page(page_of(said))
    assert hostile.tags == harmless.tags
    assert [(tag, key) for tag, key, _ in hostile.attributes] == [(tag, key) for tag, key, _ in harmless.attributes]
    assert hostile.tags.count("script") == 2
    island = next(text for attrs, text in hostile.raw if attrs.get("id") == "data")
    assert len(json.loads(island)["clients"]) == 3
    assert "<" not in island


@pytest.mark.parametrize("said", HOSTILE)
def test_no_control_character_reaches_the_page(said: str) -> None:
    """What acts on a reader's display is shown, not done."""
    text = page_of(said)
    assert not re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]", text)


def test_nothing_is_fetched_and_nothing_is_inline() -> None:
    """No address, no handler, no style attribute; the policy allows exactly the script and style of the page."""
    page = Page(page_of("Hi"))
    assert not [
        a for a in page.attributes if a[1] in ("src", "href", "action", "style", "srcset") or a[1].startswith("on")
    ]
    policy = next(value for tag, key, value in page.attributes if key == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    code = [text for attrs, text in page.raw if attrs.get("type") != "application/json"]
    assert len(code) == 2
    for text in code:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_the_script_makes_no_markup_from_data() -> None:
    """Texts are set as text."""
    script = next(text for attrs, text in Page(page_of("Hi")).raw if not attrs)
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(|fetch|XMLHttp", script)


def test_the_page_says_what_matters_first() -> None:
    """Verdict, seed and replay command, then findings, worst first, then the picture."""
    text = page_of("Hi")
    order = ["fail</p>", "seed", "Run it again", "✗", "meets connected", "Timeline", "600 µs", "Sessions", "Log"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)


def test_the_picture_of_many_clients_is_small() -> None:
    """A page of two hundred lanes stays under a megabyte."""
    history = crowd(200)
    shown = view(history, verdict_on(history), INFO)
    assert len(picture(shown)["clients"]) == 200
    assert len(render(shown)) < 1_000_000
