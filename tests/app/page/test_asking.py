"""Choose, ask, read: what a person sees of an answer, of no answer, and of a mistake."""

import json

import pytest

from tests.app.page.conftest import KEY, Open
from tests.support.browser import opened
from tests.support.heads import head_nifti
from tests.support.service import post_pair, running

SMALL, LARGE = head_nifti(15, seed=1), head_nifti(22, seed=2)
WORDS = {"improved": "Improved", "stable": "Stable", "declined": "Declined", "undecided": "Cannot be told"}


def percent(probability: float) -> str:
    """As a person reads it: no probability is 0 or 1."""
    if probability < 0.01:
        return "< 1%"
    return "> 99%" if probability > 0.99 else f"{probability:.0%}"


def test_two_files_are_answered_with_what_the_service_answers(open_page: Open, telling) -> None:
    with running(telling) as client:
        answer = post_pair(client, SMALL, LARGE, gap_days="365").json()
    with open_page() as page:
        page.choose(SMALL, LARGE)
        page.page.locator(".day input").nth(1).fill("365")
        page.compare()
        text = page.answered()
        rows = page.page.locator(".chances tbody tr").evaluate_all(
            "rows => rows.map(row => [row.cells[0].textContent, row.cells[1].textContent])"
        )
        shown = dict(rows)
        page.with_map()

    assert WORDS[answer["decision"]] in text
    for name, probability in answer["probabilities"].items():
        assert shown[name].endswith(percent(probability)), name
    for rate in ("20%", "50%", "30%"):
        assert rate in text
    assert answer["cohort_change"]["num_people"] == 41
    assert "Other people (41)" in text
    assert page.faults == []


def test_nothing_is_asked_of_anybody_but_the_service(open_page: Open) -> None:
    with open_page() as page:
        page.page.click("#example")
        page.page.wait_for_selector("#status:not(:empty)")
        page.compare()
        page.answered()
        page.with_map()

    assert page.faults == []
    asked = [url for url in page.requests if not url.startswith(("data:", "blob:"))]
    assert asked
    assert all(url.startswith(f"{page.address}/") for url in asked)


@pytest.mark.slow
def test_the_same_scan_twice_is_stable_and_said_to_be_the_same(open_page: Open) -> None:
    with open_page() as page:
        page.choose(SMALL, SMALL)
        page.compare()
        text = page.answered()

    assert "Stable" in text
    assert "nothing to compare" in text


def test_no_answer_is_told_as_such_with_its_reasons(open_page: Open) -> None:
    with open_page() as page:
        page.choose(SMALL, head_nifti(15, seed=9))
        page.page.locator(".day input").nth(1).fill("0")
        page.compare()
        text = page.answered()
        codes = page.page.locator(".reasons li").evaluate_all("items => items.map(item => item.dataset.code)")
        own = page.page.locator("#answer details li").all_text_contents()

    assert "Cannot be told" in text
    assert "same_day" in codes
    assert "difference is noise" in text
    assert own[-1].startswith("For research only")


@pytest.mark.slow
def test_what_is_missing_is_said_before_anything_is_sent_and_the_field_is_focused(open_page: Open) -> None:
    with open_page() as page:
        page.compare()
        text = page.refused()
        focused = page.page.evaluate("document.activeElement.type")
        marked = page.page.locator("[aria-invalid=true]").count()

    assert "Earlier scan: choose a file." in text
    assert "Later scan: choose a file." in text
    assert (focused, marked) == ("file", 2)
    assert not [url for url in page.requests if "progression" in url]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"<!DOCTYPE html><html>Sign in</html>", "no scan that the service can read"),
        (SMALL[: len(SMALL) // 2], "its end is missing"),
    ],
)
def test_a_file_that_is_no_scan_is_refused_kindly_and_by_name(open_page: Open, data: bytes, sentence: str) -> None:
    with open_page() as page:
        page.choose(SMALL, data)
        page.compare()
        text = page.refused()
        is_hidden = page.page.locator("#answer").is_hidden()
        # The next try clears the problem.
        page.choose(SMALL, LARGE)
        page.compare()
        page.answered()
        left = page.page.inner_text("#problem")

    assert sentence in text
    assert "The service says: later:" in text
    assert "name this request" in text
    assert is_hidden
    assert left == ""


@pytest.mark.slow
def test_a_service_that_is_gone_is_said_to_be_unreachable(open_page: Open) -> None:
    with open_page() as page:
        page.choose(SMALL, LARGE)
        page.page.route("**/v1/progression", lambda route: route.abort())
        page.compare()
        text = page.refused()

    assert "cannot be reached" in text


@pytest.mark.slow
def test_a_busy_service_says_how_long_to_wait(open_page: Open) -> None:
    problem = {"title": "Service Unavailable", "status": 503, "code": "busy", "detail": "full", "request_id": "x"}
    with open_page() as page:
        page.choose(SMALL, LARGE)
        page.page.route(
            "**/v1/progression",
            lambda route: route.fulfill(
                status=503,
                content_type="application/problem+json",
                headers={"Retry-After": "7"},
                body=json.dumps(problem),
            ),
        )
        page.compare()
        text = page.refused()

    assert "Wait 7 seconds" in text


def test_a_service_with_keys_is_asked_with_one_that_stays_in_memory(browser, keyed_address: str) -> None:
    with opened(browser, keyed_address) as page:
        page.page.wait_for_selector("#key-part:not([hidden])")
        before = page.page.inner_text("#problem")
        page.page.fill("#key", "not-the-key-0123456789")
        page.page.click("#key-form button")
        wrong = page.refused()
        page.page.fill("#key", KEY)
        page.page.click("#key-form button")
        page.page.wait_for_selector("#key-part", state="hidden")
        page.choose(SMALL, LARGE)
        page.compare()
        page.answered()
        page.with_map()
        kept = page.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie.length]")
        in_page = KEY in page.page.content()

    assert before == ""
    assert "needs a key" in wrong
    assert kept == [0, 0, 0]
    assert not in_page
    assert all(KEY not in url for url in page.requests)


@pytest.mark.slow
def test_the_answer_is_kept_as_the_json_of_the_service(open_page: Open) -> None:
    with open_page() as page:
        page.choose(SMALL, LARGE)
        with page.page.expect_response("**/v1/progression") as waiting:
            page.compare()
        answer = waiting.value.json()
        page.answered()
        with page.page.expect_download() as downloading:
            page.page.click("#save")
        saved = json.loads(downloading.value.path().read_text(encoding="utf-8"))

    assert saved == answer
    assert downloading.value.suggested_filename.startswith(f"interscan_{answer['decision']}_")


@pytest.mark.slow
def test_the_page_speaks_german_to_a_german_browser(open_page: Open) -> None:
    with open_page(locale="de-DE") as page:
        page.choose(SMALL, SMALL)
        page.compare()
        text = page.answered()
        language = page.page.evaluate("document.documentElement.lang")

    assert language == "de"
    assert "Stabil" in text
    assert "es gibt nichts zu vergleichen" in text


@pytest.mark.slow
def test_text_from_a_service_is_never_markup(open_page: Open) -> None:
    problem = {"title": "x", "status": 422, "code": "odd", "detail": "<img src=x onerror=alert(1)>", "request_id": "x"}
    with open_page() as page:
        page.choose(SMALL, LARGE)
        page.page.route(
            "**/v1/progression",
            lambda route: route.fulfill(status=422, content_type="application/problem+json", body=json.dumps(problem)),
        )
        page.compare()
        text = page.refused()
        images = page.page.locator("#problem img").count()

    assert "<img src=x" in text
    assert images == 0
