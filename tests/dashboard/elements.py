"""What a page is made of: to see that no text has become a part of it."""

from __future__ import annotations

from html.parser import HTMLParser

HOSTILE = (
    "<b id=planted onclick=alert(1)>'\"&",
    "</td></tr></table><script>planted()</script>",
    '"><img src=x onerror=planted()>',
    "' autofocus onfocus='planted()",
    "{{ 7*7 }}{% planted %}",
    "&lt;b&gt;&#60;script&#62;",
    "--><svg/onload=planted()>",
    "]]><planted/>",
    "javascript:planted()",
    "‮planted⁦",
    "line\r\nSet-Cookie: planted=1",
    "\x00\x1b[31m\x7f\x9b",
    "\ud800",
    "％3Cplanted％3E",
    "../../../planted?x#y",
    "a b;c,d\\e|f`g^h",
)
"""Texts that would be more than text wherever somebody forgot."""

NAMES = ("a/b", "../up", "/", "//", "a//b/", "a/..", "é:@+._-", "مهم", "e\u0301", "%41".replace("%", "+"), "x" * 200)
"""Every odd character that a queue or schedule may be named with."""


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(sorted(name for name, _ in attrs))))


def elements(page: str) -> list[tuple[str, tuple[str, ...]]]:
    """Every element of a page in its order, with the names of its attributes."""
    parser = _Elements()
    parser.feed(page)
    parser.close()
    return parser.found
