from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import pytest

import microq


def files(folder: str) -> dict[str, str]:
    found = sorted((Path(microq.__file__).parent / folder).iterdir())
    return {file.name: file.read_text(encoding="utf-8") for file in found}


PAGES = {part: {**files("style"), **files(f"{part}/static")} for part in ("dashboard", "services")}
"""The part of the package that has a page -> the files of it, with what all pages share: name -> text."""

NAMESPACE = "http://www.w3.org/2000/svg"

LONGEST = 260

FORBIDDEN = {
    "an address outside": r"https?:|url\(|@import|[\"'(]//",
    "data as markup": r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc",
    "text as code": r"\beval\b|new Function|javascript:",
}


class Ids(HTMLParser):
    """The ids of a page, and what its content security policy would refuse."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.inline: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.inline += [name for name in given if name.startswith("on")]
        if tag == "script" and "src" not in given:
            self.inline.append(tag)


def faults(texts: Mapping[str, str]) -> list[str]:
    """What is wrong with the files of a page: name -> text."""
    page = Ids(texts["index.html"])
    found = [f"index.html: inline {name}" for name in page.inline]
    found += [f"index.html: #{name} twice" for name in {name for name in page.ids if page.ids.count(name) > 1}]
    for name, text in texts.items():
        rest = text.replace(NAMESPACE, "")
        found += [f"{name}: {what}" for what, pattern in FORBIDDEN.items() if re.search(pattern, rest)]
        asked = re.findall(r'(?:\$|getElementById)\("([^"]*)"\)', text) if name.endswith(".js") else []
        found += [f"{name}: no #{each}" for each in asked if each not in page.ids]
        imported = re.findall(r'from "\./([^"]+)"', text) + re.findall(
            r'"/(?:static|style)/([^"]+\.(?:js|css|svg))"', text
        )
        found += [f"{name}: no {each}" for each in imported if each not in {*texts, "plotly.min.js"}]
    return found


@pytest.mark.parametrize("part", PAGES)
def test_page_loads_nothing_from_outside_and_finds_its_files(part: str) -> None:
    assert faults(PAGES[part]) == []


@pytest.mark.parametrize("part", PAGES)
def test_every_colour_that_pages_share_is_stated_once(part: str) -> None:
    styles = [text for name, text in PAGES[part].items() if name.endswith(".css")]
    stated = [colour for text in styles for colour in re.findall(r"(--[\w-]+): ", text)]
    assert "--accent" in stated
    assert len(stated) == len(set(stated))
    used = {colour for text in styles for colour in re.findall(r"var\((--[\w-]+)\)", text)}
    assert used <= set(stated)


@pytest.mark.parametrize("part", PAGES)
def test_no_file_of_a_page_is_a_drawer_for_everything(part: str) -> None:
    modules = {name: len(text.splitlines()) for name, text in PAGES[part].items() if name.endswith(".js")}
    assert {name: length for name, length in modules.items() if length > LONGEST} == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("app.js", 'import "https://example.org/x.js";'),
        ("app.js", 'node.src = "//example.org/x.png";'),
        ("app.js", "node.innerHTML = text;"),
        ("app.js", '$("nowhere")'),
        ("app.js", 'import { x } from "./nowhere.js";'),
        ("app.js", 'eval("1")'),
        ("style.css", "i { background: url(x.png); }"),
        ("index.html", "<script>run()</script>"),
        ("index.html", '<button onclick="run()">'),
        ("index.html", '<i id="one"></i><i id="one"></i>'),
    ],
)
def test_what_is_wrong_with_a_page_is_found(name: str, text: str) -> None:
    fine = {"index.html": "<p>", "app.js": "", "style.css": ""}
    assert faults(fine) == []
    assert len(faults({**fine, name: text})) == 1
