"""GET / and its files: what a browser is sent, and what it is forbidden."""

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest

from app.routes.page import FOLDER, HEADERS
from app.schemas import Decision, ReasonCode
from preprocess.image_statistics import CheckName
from tests.support.service import running

NIIVUE = ("0.69.0", "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af")
"""Release, and SHA-256 of dist/niivue.umd.js in its npm package."""
FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())
OWN = [name for name in FILES if not name.startswith("vendor/")]


class Document(HTMLParser):
    """What the page names, and what a strict policy would stop."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.inline: list[str] = []
        self.texts: list[str] = []
        self.ids: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self._open = tag
        self.links += [value for key, value in attrs if key in ("src", "href") and value and not value.startswith("#")]
        self.inline += [key for key in named if key == "style" or key.startswith("on")]
        self.texts += [named["data-text"] or ""] if "data-text" in named else []
        self.ids += [named["id"] or ""] if "id" in named else []

    def handle_data(self, data: str) -> None:
        if self._open in ("script", "style") and data.strip():
            self.inline.append(data)


@pytest.fixture(scope="module")
def document(client) -> Document:
    return Document(client.get("/").text)


def test_the_page_is_html_under_a_policy_that_allows_nothing_from_elsewhere(client) -> None:
    response = client.get("/")

    policy = dict(part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";"))
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in response.headers["content-security-policy"]
    assert response.headers["x-content-type-options"] == "nosniff"


def test_nothing_stands_inline_and_every_link_leads_to_a_path_of_the_service(document: Document, client) -> None:
    assert document.inline == []
    assert len(document.links) > 5
    # Relative, so that the page works under a proxy's prefix.
    assert not [link for link in document.links if link.startswith(("/", "http"))]
    assert {client.get(f"/{link}").status_code for link in document.links} == {200}
    assert len(set(document.ids)) == len(document.ids)


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_sent_with_the_headers_and_its_type(client, name: str) -> None:
    response = client.get(f"/static/{name}")

    assert response.status_code == 200
    assert response.content == (FOLDER / name).read_bytes()
    assert {key: response.headers[key] for key in HEADERS} == dict(HEADERS)
    if name.endswith(".js"):
        assert response.headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize("name", ["../main.py", "%2e%2e/main.py", "..%2fmain.py", "", "js", "js/none.js"])
def test_nothing_outside_of_its_folder_is_sent(client, name: str) -> None:
    response = client.get(f"/static/{name}")

    assert response.status_code == 404
    assert "import" not in response.text


def test_a_file_that_has_not_changed_is_not_sent_twice(client) -> None:
    first = client.get("/static/page.css")
    again = client.get("/static/page.css", headers={"If-None-Match": first.headers["etag"]})

    assert (again.status_code, again.content) == (304, b"")


def test_the_page_is_open_without_a_key_and_its_questions_are_not(artefact) -> None:
    with running(artefact, api_keys=("0123456789abcdef",)) as client:
        assert client.get("/").status_code == 200
        assert client.get("/v1/models").status_code == 401


def test_under_a_prefix_the_page_lies_behind_its_slash(artefact) -> None:
    with running(artefact, root_path="/scan") as client:
        bare = client.get("/scan", follow_redirects=False)
        page = client.get("/scan/")
        style = client.get("/scan/static/page.css")

    assert (bare.status_code, bare.headers["location"]) == (307, "/scan/")
    assert (page.status_code, style.status_code) == (200, 200)
    assert page.headers["content-type"].startswith("text/html")


def test_niivue_is_the_file_of_its_release_with_its_licence() -> None:
    release, digest = NIIVUE
    licence = (FOLDER / "vendor" / "LICENSE").read_text(encoding="utf-8")

    assert hashlib.sha256((FOLDER / "vendor" / "niivue.umd.js").read_bytes()).hexdigest() == digest
    assert f"NiiVue {release}" in licence
    assert "BSD 2-Clause" in licence


@pytest.mark.parametrize("name", OWN)
def test_own_files_are_short_and_keep_nothing_in_the_browser(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")

    assert len(text.splitlines()) < 300
    assert not re.search(r"localStorage|sessionStorage|indexedDB|document\.cookie|innerHTML|eval\(", text)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)


def texts(language: str) -> dict[str, str]:
    """Name and text of each entry of a language's file."""
    source = (FOLDER / "js" / "texts" / f"{language}.js").read_text(encoding="utf-8")
    return dict(re.findall(r'^  (\w+): "(.*)",$', source, re.MULTILINE))


def places(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


def test_both_languages_say_the_same_things_with_the_same_values() -> None:
    english, german = texts("en"), texts("de")

    assert english.keys() == german.keys()
    assert len(english) > 150
    assert [name for name in english if places(english[name]) != places(german[name])] == []
    assert not [name for name, text in german.items() if text == english[name] and len(text.split()) > 2]


def test_each_text_is_used_and_each_used_text_is_there(document: Document) -> None:
    source = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in OWN if "texts" not in name)
    literal = set(re.findall(r"\"(\w+)\"", source)) | set(document.texts)
    decisions = [f"{kind}_{name}" for name in get_args(Decision) for kind in ("headline", "plain")]
    made = {
        *decisions,
        *(f"plain_{name}_course" for name in get_args(Decision)),
        *(f"reason_{code}" for code in get_args(ReasonCode)),
        *(f"check_{name}" for name in get_args(CheckName)),
        *get_args(Decision),
    }
    known = texts("en").keys()
    called = set(re.findall(r"\bt\(\s*\"(\w+)\"", source)) | set(document.texts) | made
    assert called - known == set()
    problems = {name for name in known if name.startswith("problem_")}
    assert known - called - literal - problems == set()
    # A problem's text goes by its code, which the service or a finding must really have.
    codes = {name.removeprefix("problem_") for name in problems} - {
        *("title", "service", "id", "unreachable", "other"),
    }
    root = Path(__file__).resolve().parents[3]
    files = [path for part in ("app", "preprocess") for path in (root / part).rglob("*.py")]
    server = "\n".join(path.read_text(encoding="utf-8") for path in files)
    assert [code for code in codes if f'"{code}"' not in server] == []
