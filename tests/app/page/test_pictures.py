"""Both scans beside another with one crosshair, the map over the later one, and ways to move without a mouse."""

import gzip
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.inputs import prepare
from preprocess.dicom_zip import pack
from tests.app.page.conftest import Open
from tests.support.artefacts import RECIPE, write_artefact
from tests.support.browser import Opened, opened, served
from tests.support.heads import head_nifti
from tests.support.series import files_of, slices

SMALL, LARGE = head_nifti(15, seed=1), head_nifti(22, seed=2)


def pixels(page: Opened, side: int) -> np.ndarray:
    """What a canvas shows, RGB, shape (H, W, 3)."""
    data = page.page.locator(".canvas").nth(side).screenshot()
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def slider_values(page: Opened) -> list[str]:
    values: list[Any] = page.page.locator(".sliders input").evaluate_all("inputs => inputs.map(input => input.value)")
    return values


def test_both_scans_are_drawn_and_the_later_one_in_colours(open_page: Open) -> None:
    with open_page() as page:
        page.choose(SMALL, LARGE)
        page.compare()
        page.with_map()
        page.page.uncheck("#map")
        plain = pixels(page, 1)
        page.page.check("#map")
        page.page.locator("#strength").fill("100")
        coloured = pixels(page, 1)
        earlier = pixels(page, 0)

    assert earlier.max() > 100
    assert np.abs(earlier - plain).max() > 50
    spread = coloured.max(axis=2) - coloured.min(axis=2)
    assert (spread > 60).sum() > (plain.max(axis=2) - plain.min(axis=2) > 60).sum()
    assert page.faults == []


@pytest.mark.slow
def test_a_click_in_one_picture_moves_the_crosshair_of_both_and_the_sliders(open_page: Open) -> None:
    with open_page() as page:
        page.choose(SMALL, LARGE)
        page.compare()
        page.with_map()
        before, there = slider_values(page), pixels(page, 1)
        box = page.page.locator(".canvas").nth(0).bounding_box()
        assert box is not None
        page.page.locator(".canvas canvas").nth(0).click(position={"x": box["width"] * 0.2, "y": box["height"] * 0.2})
        page.page.wait_for_timeout(300)
        after, moved = slider_values(page), pixels(page, 1)

    assert before == ["50", "50", "50"]
    assert after != before
    assert np.abs(moved - there).max() > 50


@pytest.mark.slow
def test_the_keys_move_the_crosshair_and_the_place_is_said_in_words(open_page: Open) -> None:
    with open_page() as page:
        page.choose(SMALL, LARGE)
        page.compare()
        page.with_map()
        there, here = pixels(page, 0), page.page.inner_text("#here")
        page.page.focus("#slide_z")
        for _ in range(12):
            page.page.keyboard.press("ArrowRight")
        said = page.page.get_attribute("#slide_z", "aria-valuetext")
        moved, now = pixels(page, 0), page.page.inner_text("#here")

    # 12 of 100 parts of (16 - 1) * 12 mm.
    assert said == "+22 mm from the middle"
    assert np.abs(moved - there).max() > 50
    assert here.startswith("At the crosshair:")
    assert now != here


@pytest.mark.slow
def test_a_zip_of_a_dicom_series_is_shown_and_answered_like_any_scan(open_page: Open) -> None:
    series = pack(files_of(slices()))
    with open_page() as page:
        page.choose(series, series, name="series.zip")
        page.compare()
        text = page.answered()
        page.page.get_by_text("Later scan").last.wait_for()
        shown = pixels(page, 0)

    assert "Stable" in text
    assert shown.max() > 100


@pytest.mark.slow
def test_a_model_without_points_answers_and_says_that_it_has_no_map(browser, tmp_path) -> None:
    with served(write_artefact(tmp_path / "silent" / "1")) as address, opened(browser, address) as page:
        page.choose(SMALL, LARGE)
        page.compare()
        text = page.answered()
        page.page.get_by_text("cannot say where it sees the change").wait_for()
        shown = pixels(page, 1)

    assert "tells no change in points" in text
    assert shown.max() > 100


@pytest.mark.slow
def test_a_browser_without_webgl_gets_the_answer_and_is_told_why_there_are_no_pictures(open_page: Open) -> None:
    with open_page() as page:
        page.page.evaluate("HTMLCanvasElement.prototype.getContext = () => null")
        page.choose(SMALL, LARGE)
        page.compare()
        text = page.answered()
        viewer = page.page.inner_text("#viewer")

    assert "How likely each answer is" in text
    assert "lacks WebGL 2" in viewer
    assert page.faults == []


@pytest.mark.slow
def test_the_printed_report_holds_the_answer_and_the_pictures_and_no_controls(open_page: Open) -> None:
    with open_page() as page:
        page.choose(SMALL, LARGE)
        page.compare()
        page.with_map()
        page.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        page.page.emulate_media(media="print")
        printed = page.page.locator(".printonly").nth(1)
        size = printed.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])")
        brightest = printed.evaluate(
            """image => {
                const canvas = document.createElement("canvas");
                [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
                const context = canvas.getContext("2d");
                context.drawImage(image, 0, 0);
                const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
                return data.reduce((most, value, index) => (index % 4 < 3 ? Math.max(most, value) : most), 0);
            }"""
        )
        words = page.page.locator("#answer details li").last.is_visible()
        visible = [page.page.locator(name).first.is_visible() for name in ("#answer", "#notice", "#model", ".digests")]
        hidden = [page.page.locator(name).first.is_visible() for name in ("#choose", "#save", ".sliders", "canvas")]

    assert min(size) > 100
    assert words
    assert brightest > 100
    assert visible == [True] * 4
    assert hidden == [False] * 4


@pytest.mark.slow
def test_the_service_itself_prepared_what_is_shown(open_page: Open) -> None:
    """The picture's brightest voxel is the prepared volume's: nothing was computed in the browser."""
    with open_page() as page:
        page.choose(SMALL, LARGE)
        with page.page.expect_response("**/v1/volumes") as waiting:
            page.compare()
        body = waiting.value.body()
        page.with_map()

    voxels = np.frombuffer(gzip.decompress(body)[352:], np.uint8).reshape(RECIPE.grid, order="F")
    np.testing.assert_array_equal(voxels, prepare(SMALL, RECIPE, name="x").voxels_CDHW[0])
