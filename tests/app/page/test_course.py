"""Three visits and more: the course, its days and age, and the pictures of any two."""

import pytest

from tests.app.page.conftest import Open
from tests.support.browser import Opened
from tests.support.heads import head_nifti

SCANS = [head_nifti(core, seed=seed) for seed, core in enumerate((15, 18, 22))]


def three(page: Opened, days: tuple[str, str] = ("365", "730")) -> None:
    page.page.click("#add")
    page.choose(*SCANS)
    for index, day in enumerate(days, start=1):
        page.page.locator(".day input").nth(index).fill(day)


def test_three_visits_are_answered_as_the_service_answers_them(open_page: Open) -> None:
    with open_page() as page:
        three(page)
        page.page.fill("#age", "64")
        with page.page.expect_response("**/v1/trajectories") as waiting:
            page.compare()
        answer = waiting.value.json()
        text = page.answered()
        page.with_map()
        rows = page.page.locator("table.course").first.locator("tbody tr").count()
        dots = page.page.locator(".chart .dot").count()

    points = answer["annual_change"]["points_per_year"]
    sign = "\u2212" if points < 0 else "+"
    assert f"{sign}{abs(points):.1f} points of mmse a year" in text
    assert answer["percentile_for_age"]["num_people"] == 41
    assert "Of 41 people of about this age" in text
    assert (rows, dots) == (3, 3)
    assert page.faults == []


@pytest.mark.slow
def test_any_two_visits_can_be_laid_side_by_side_with_the_map_between_them(open_page: Open) -> None:
    with open_page() as page:
        three(page)
        page.compare()
        page.answered()
        page.with_map()
        with page.page.expect_request("**/v1/progression/map"):
            page.page.select_option("#left", "1")
        page.with_map()
        captions = page.page.locator("figcaption").all_text_contents()
        page.page.select_option("#right", "1")
        page.page.locator(".mappart").wait_for(state="hidden")

    assert captions == ["Visit 2", "Visit 3"]
    assert page.faults == []


@pytest.mark.slow
def test_the_example_of_three_visits_is_one_click_and_compare(open_page: Open) -> None:
    with open_page() as page:
        page.page.click("#example-three")
        page.page.wait_for_selector("#status:not(:empty)")
        days = page.page.locator(".day input").evaluate_all("inputs => inputs.map(input => input.value)")
        age = page.page.input_value("#age")
        page.compare()
        text = page.answered()

    assert days == ["0", "311", "703"]
    assert age == "64"
    assert "Course over time" in text


@pytest.mark.slow
def test_a_visit_without_its_day_is_asked_for_it(open_page: Open) -> None:
    with open_page() as page:
        three(page, ("365", ""))
        page.compare()
        text = page.refused()

    assert "Visit 3: write how many days" in text
    assert "Visit 2" not in text


@pytest.mark.slow
@pytest.mark.parametrize(("age", "is_refused"), [("130", True), ("64", False)])
def test_an_age_beyond_the_limit_is_refused_before_anything_is_sent(
    open_page: Open, age: str, is_refused: bool
) -> None:
    with open_page() as page:
        three(page)
        page.page.fill("#age", age)
        page.compare()
        text = page.refused() if is_refused else page.answered()

    assert ("0 to 120" in text) is is_refused
    assert any("trajectories" in url for url in page.requests) is not is_refused


@pytest.mark.slow
def test_visits_come_and_go_and_two_always_stay(open_page: Open) -> None:
    with open_page() as page:
        removable_at_first = page.page.locator(".remove:visible").count()
        for _ in range(14):
            page.page.click("#add")
        is_full = page.page.is_disabled("#add")
        names = page.page.locator("legend").all_text_contents()
        page.page.locator(".remove").first.click()
        left = page.page.locator(".visit").count()

    assert removable_at_first == 0
    assert is_full
    assert names[-1] == "Visit 16"
    assert left == 15
