"""A picture shows disc, fovea and lesions where they are, in the colours they have, and one eye mirrors the other."""

import dataclasses
import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Pillow
from scipy import ndimage, stats

from interscan.synthetic.eyes.lesions import DISC, Lesions, draw_lesions
from interscan.synthetic.eyes.render import CAMERAS, Person, draw_fundus, png

PERSON = Person(pigment=0.4, num_drusen=0)
NONE = np.empty((0, 3))
NORMAL = Lesions(NONE, NONE, NONE, (), 0, 0)
QUIET = dataclasses.replace(CAMERAS[0], noise=0.0)


def _picture(lesions=NORMAL, *, camera=QUIET, person=PERSON, right=True, eye=0, image=0, size=192):
    return draw_fundus(
        camera,
        person,
        lesions,
        is_right=right,
        eye_rng=np.random.default_rng(eye),
        image_rng=np.random.default_rng(image),
        size_px=size,
    )


def _change(lesions: Lesions, **options) -> npt.NDArray[np.float64]:
    """What the lesions change in each pixel and channel; everything else is drawn alike."""
    return _picture(lesions, **options).astype(float) - _picture(**options)


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("size", [48, 96, 130])
def test_pictures_are_uint8_colour_of_the_asked_size_and_repeat_bit_by_bit(camera, size: int) -> None:
    lesions = draw_lesions(4.5, np.random.default_rng(0))
    picture = _picture(lesions, camera=camera, size=size)
    assert (picture.dtype, picture.shape) == (np.uint8, (size, size, 3))
    assert np.array_equal(picture, _picture(lesions, camera=camera, size=size))
    assert not np.array_equal(picture, _picture(lesions, camera=camera, size=size, image=1))


def test_a_png_holds_the_very_pixels() -> None:
    picture = _picture(size=96)
    with Pillow.open(io.BytesIO(png(picture))) as read:
        assert read.format == "PNG"
        assert np.array_equal(np.asarray(read), picture)


@pytest.mark.parametrize("right", [True, False])
def test_the_disc_is_the_brightest_place_on_the_nasal_side(right: bool) -> None:
    for eye in range(5):
        green = ndimage.gaussian_filter(_picture(right=right, eye=eye, image=eye)[..., 1].astype(float), 4)
        row, column = np.unravel_index(np.argmax(green), green.shape)
        x = (column + 0.5) / 96 - 1
        # Gaze is 0.14 +- 0.07 nasal of the fovea and the head turned by up to 6 degrees.
        assert (x if right else -x) == pytest.approx(DISC[0] - 0.14, abs=0.2)
        assert abs((row + 0.5) / 96 - 1) < 0.3


def test_a_left_eye_is_the_mirror_image_of_a_right_one() -> None:
    lesions = draw_lesions(4.2, np.random.default_rng(1))
    even_light = dataclasses.replace(QUIET, blur=0.0)
    right, left = (_picture(lesions, camera=even_light, right=is_right).astype(float) for is_right in (True, False))

    def unevenness(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
        """What a cubic surface leaves of the log ratio: the tilt of the light is not mirrored, but it is smooth."""
        middle = slice(40, 152)
        log_ratio = np.log(one[middle, middle, 1] / other[middle, middle, 1]).ravel()
        x, y = (axis.ravel() / 56 - 1 for axis in np.indices((112, 112)))
        surface = np.column_stack([x**i * y**j for i in range(4) for j in range(4 - i)])
        return float(np.std(log_ratio - surface @ np.linalg.lstsq(surface, log_ratio, rcond=None)[0]))

    assert unevenness(right, left[:, ::-1]) < 0.02  # whole grey values, 60 and more, and the edges of lines
    assert unevenness(right, left) > 0.1


def test_blood_darkens_green_more_than_red_and_exudates_brighten() -> None:
    spot = np.array([[-0.3, 0.25, 0.06]])
    blood, exudate = _change(Lesions(NONE, spot, NONE, (), 1, 0)), _change(Lesions(NONE, NONE, spot, (), 0, 0))
    for change, sign in ((blood, -1), (exudate, 1)):
        total = np.abs(change).sum(axis=2)
        row, column = ndimage.center_of_mass(total)
        x, y = (column + 0.5) / 96 - 1, 1 - (row + 0.5) / 96
        assert np.hypot(x - (-0.3 - 0.14), y - 0.25) < 0.16  # gaze and tilt
        # A disc of radius 0.06 covers 0.06^2 of the circle that fills pi/4 of the picture.
        strong = total > total.max() / 2
        assert strong.mean() == pytest.approx(0.06**2 * np.pi / 4, rel=0.2)
        assert sign * change[strong].mean() > 15
    middle = np.abs(blood).sum(axis=2) > 0.8 * np.abs(blood).sum(axis=2).max()
    relative = blood[middle].sum(axis=0) / _picture()[middle].astype(float).sum(axis=0)
    assert relative[1] < relative[0] < -0.2


def test_more_severe_eyes_change_more_of_the_picture() -> None:
    severities = np.linspace(1, 4.99, 25)
    lesions = [draw_lesions(float(severity), np.random.default_rng(n)) for n, severity in enumerate(severities)]
    changed = [np.abs(_change(one, eye=n, image=n, size=96)).mean() for n, one in enumerate(lesions)]
    assert stats.spearmanr(severities, changed).statistic > 0.85
    assert stats.spearmanr([one.area for one in lesions], changed).statistic > 0.9


def test_a_single_microaneurysm_is_seen_at_the_default_size() -> None:
    dot = Lesions(np.array([[-0.35, 0.3, 0.013]]), NONE, NONE, (), 0, 0)
    for camera in CAMERAS:
        change = _change(dot, camera=dataclasses.replace(camera, noise=0.0), size=96)
        # The smallest dot against the noise of its camera, in grey values of the green channel.
        assert -change[..., 1].min() > 2 * 255 * camera.noise


def test_the_second_camera_cuts_the_field_and_is_bluer() -> None:
    whole, cut = (_picture(camera=camera) for camera in CAMERAS)
    assert whole[10:20, 90:100].min() > 0
    assert not cut[:12].any()
    assert not cut[-12:].any()
    colour = [picture[60:130, 60:130].reshape(-1, 3).astype(float).mean(axis=0) for picture in (whole, cut)]
    assert colour[1][2] / colour[1][0] > 1.15 * colour[0][2] / colour[0][0]
    corners = [picture[:8, :8] for picture in (whole, cut)]
    assert not np.any(corners)


def test_drusen_are_pale_and_part_of_normal_eyes() -> None:
    change = _picture(person=Person(pigment=0.4, num_drusen=10)).astype(float) - _picture()
    assert change.max() > 15
    assert change.sum() > 0.9 * np.abs(change).sum()  # on the disc, which is brighter, one may darken
    assert 0 < (np.abs(change).sum(axis=2) > 10).mean() < 0.02
