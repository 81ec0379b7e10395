"""The report as one HTML file that opens from `file://`, offline, and does nothing that a hostile byte asks for.

Markup is made by Jinja2 with autoescape. What the picture is drawn from is a JSON island in which `<`, `>` and `&` are
escaped, so that no text can end it. The page's policy (CSP) allows the one script and the one style sheet by their
hashes, and nothing else: no request, no other script, no inline handler, no form.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup

from midsession.report.lanes import packed
from midsession.report.model import View
from midsession.report.text import count, duration, instant

HERE = Path(__file__).parent

SIGNS = {"pass": "✓", "fail": "✗", "inconclusive": "?", "error": "!"}


def render(view: View) -> str:
    """The whole page."""
    script, style = _asset("page.js"), _asset("page.css")
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; form-action 'none'"
    )
    return template().render(
        v=view, signs=SIGNS, policy=policy, script=Markup(script), style=Markup(style), data=island(picture(view))
    )


def picture(view: View) -> dict[str, Any]:
    """What the page's script draws from: short keys, instants in microseconds from the start."""
    s = view.series
    return {
        "end": max(1, view.head.duration_ns // 1000),
        "clients": [packed(lane) for lane in view.clients],
        "services": [packed(lane) for lane in view.services],
        "bands": [[b.step, b.label, b.start_ns // 1000, b.end_ns // 1000, b.is_fault] for b in view.bands],
        "bin": s.bin_ns / 1000,
        "connected": s.connected,
        "replies": s.replies,
        "losses": s.losses,
        "slowest": [ns // 1000 for ns in s.slowest_ns],
    }


def island(value: Any) -> Markup:
    """JSON that can stand inside a `<script type="application/json">`: nothing in it can end the element."""
    text = msgspec.json.encode(value).decode()
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def _hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _asset(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@cache
def template() -> jinja2.Template:
    """The page before it is filled. It takes a moment to compile, so whoever has time calls it early."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"duration": duration, "instant": instant, "count": count}
    return environment.from_string(_asset("page.html"))
