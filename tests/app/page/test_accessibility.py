"""axe finds nothing in any state of the page; it is used by keys alone, and fits 360 pixels."""

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.app.page.conftest import Open
from tests.support.browser import Opened
from tests.support.heads import head_nifti

SMALL, LARGE = head_nifti(15, seed=1), head_nifti(22, seed=2)
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
LOOKS: list[dict[str, Any]] = [
    {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}, "locale": "de-DE"},
]


def faults(page: Opened) -> list[str]:
    found = Axe().run(page.page, options=RULES).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:120]}" for one in found]


def overflow(page: Opened) -> int:
    """Pixels by which the page is wider than the window."""
    wider: int = page.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return wider


@pytest.mark.parametrize("look", LOOKS, ids=["light 1280 px", "dark 360 px German"])
def test_axe_finds_nothing_before_within_and_after_an_answer(open_page: Open, look: dict[str, Any]) -> None:
    with open_page(**look) as page:
        page.page.wait_for_selector("#model:not(:empty)")
        at_first, wide_at_first = faults(page), overflow(page)
        page.compare()
        page.refused()
        with_problem = faults(page)
        page.choose(SMALL, LARGE)
        page.page.locator(".day input").nth(1).fill("365")
        page.compare()
        page.answered()
        page.with_map()
        with_answer, wide_with_answer = faults(page), overflow(page)
        page.page.click("#example-three")
        page.page.wait_for_selector("#age-part:not([hidden])")
        page.compare()
        page.page.wait_for_selector(".chart")
        with_course = faults(page)

    assert at_first == with_problem == with_answer == with_course == []
    assert wide_at_first <= 0
    assert wide_with_answer <= 0


@pytest.mark.slow
def test_axe_would_see_a_fault(open_page: Open) -> None:
    with open_page() as page:
        page.page.evaluate("document.querySelector('label[for^=visit]').remove()")
        found = faults(page)

    assert [one for one in found if one.startswith("label:")]


@pytest.mark.slow
def test_the_keyboard_alone_leads_from_the_top_to_an_answer(open_page: Open) -> None:
    with open_page() as page:
        page.page.keyboard.press("Tab")
        first = page.page.evaluate("document.activeElement.className")
        page.page.keyboard.press("Enter")
        seen = []
        for _ in range(12):
            page.page.keyboard.press("Tab")
            seen.append(page.page.evaluate("document.activeElement.id"))
            if seen[-1] == "example":
                break
        page.page.keyboard.press("Enter")
        page.page.locator("#compare:focus").wait_for()
        page.page.keyboard.press("Enter")
        page.answered()
        page.page.locator("#answer:focus").wait_for()
        labelled = page.page.get_attribute("#answer", "aria-labelledby")
        name = page.page.inner_text(f"#{labelled}")

    assert first == "skip"
    assert seen[-1] == "example"
    assert name in ("Improved", "Stable", "Declined", "Cannot be told")


@pytest.mark.slow
def test_what_happens_is_said_to_a_screen_reader(open_page: Open) -> None:
    with open_page() as page:
        roles = [page.page.get_attribute(name, "role") for name in ("#status", "#problem")]
        page.choose(SMALL, LARGE)
        page.compare()
        page.answered()
        said = page.page.inner_text("#status")
        canvas = page.page.get_attribute("canvas", "aria-label")

    assert roles == ["status", "alert"]
    assert said == "The answer is below."
    assert canvas is not None
    assert canvas.startswith("Picture of Earlier scan")


@pytest.mark.slow
def test_each_answer_has_a_word_and_a_shape_of_its_own_beside_its_colour(open_page: Open) -> None:
    with open_page() as page:
        shapes = page.page.evaluate(
            """async () => {
                const { headline } = await import(new URL("static/js/verdict.js", document.baseURI));
                return ["improved", "stable", "declined", "undecided"].map((decision) => {
                    const made = headline({ decision }, "");
                    return [made.querySelector("h2").textContent, made.querySelector("path").getAttribute("d")];
                });
            }"""
        )

    assert len({word for word, _ in shapes}) == len({shape for _, shape in shapes}) == 4
