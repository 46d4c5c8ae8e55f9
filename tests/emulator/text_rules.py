"""What Telegram does to a text that a bot sends: cleaning, limits, HTML. Markdown is refused: a bot can do without."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from tests.emulator.parameters import Parameters, bad_request
from tests.emulator.world import units

MAX_TEXT = 4096
MAX_CAPTION = 1024
MAX_CALLBACK_BYTES = 64
_CONTROL = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f]")
_DROPPED = re.compile(r"[\r\u2028-\u202e]")
_INVISIBLE = " \n\u00a0\u1680\u180e\u202f\u205f\u2800\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x2010)))
_TAGS = {
    "b": "bold",
    "strong": "bold",
    "i": "italic",
    "em": "italic",
    "u": "underline",
    "s": "strikethrough",
    "code": "code",
    "pre": "pre",
    "a": "text_link",
    "blockquote": "blockquote",
    "tg-spoiler": "spoiler",
}


def clean_text(params: Parameters, name: str, limit: int, *, may_be_empty: bool = False) -> dict[str, Any]:
    """{name: text, entities: [...]} as stored. Raises what Telegram answers to an empty, long or malformed text."""
    raw = params.text(name)
    if not raw and not may_be_empty:
        raise bad_request(f"message {name} is empty")
    mode = params.text("parse_mode").lower()
    found: list[dict[str, Any]] = params.json("entities") or []
    if mode == "html":
        raw, found = _parse_html(raw)
    elif mode:
        raise bad_request(f"can't parse entities: the emulator knows HTML only, not {params.text('parse_mode')}")
    text = _DROPPED.sub("", _CONTROL.sub(" ", raw))
    if not text.strip(_INVISIBLE) and not may_be_empty:
        raise bad_request("text must be non-empty")
    stripped = text.rstrip(" \n") if found else text.strip(" \n")
    if len(stripped) > limit:
        raise bad_request("message caption is too long" if name == "caption" else "message is too long")
    return {name: stripped} | ({"entities": found} if found else {})


def clean_markup(params: Parameters) -> dict[str, Any]:
    """{reply_markup: ...} checked, or nothing."""
    markup = params.json("reply_markup")
    if markup is None:
        return {}
    if not isinstance(markup, dict):
        raise bad_request("object expected as reply markup")
    for row in markup.get("inline_keyboard", []):
        for button in row:
            if not button.get("text", "").strip():
                raise bad_request("Text buttons are unallowed in the inline keyboard")
            data = button.get("callback_data")
            if data is None and not button.get("url"):
                raise bad_request("Text buttons are unallowed in the inline keyboard")
            if data is not None and not 1 <= len(data.encode()) <= MAX_CALLBACK_BYTES:
                raise bad_request("BUTTON_DATA_INVALID")
    return {"reply_markup": markup} if "inline_keyboard" in markup else {}


class _Html(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.open: list[tuple[str, int]] = []
        self.entities: list[dict[str, Any]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _TAGS:
            raise bad_request(f'can\'t parse entities: Unsupported start tag "{tag}" at byte offset {self.getpos()[1]}')
        self.open.append((tag, units(self.text)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1][0] != tag:
            raise bad_request(
                f'can\'t parse entities: Unmatched end tag at byte offset {self.getpos()[1]}, found "</{tag}>"'
            )
        _, start = self.open.pop()
        if units(self.text) > start:
            self.entities.append({"type": _TAGS[tag], "offset": start, "length": units(self.text) - start})

    def handle_data(self, data: str) -> None:
        self.text += data


def _parse_html(raw: str) -> tuple[str, list[dict[str, Any]]]:
    if re.search(r"<(?![A-Za-z/])|<[^>]*$", raw):
        raise bad_request("can't parse entities: Unsupported start tag")
    parser = _Html()
    parser.feed(raw)
    parser.close()
    if parser.open:
        raise bad_request(f"can't parse entities: Can't find end tag corresponding to start tag {parser.open[-1][0]}")
    return parser.text, parser.entities
