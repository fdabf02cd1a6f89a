"""Draws one colour picture of an eye's fundus: retina, disc, macula, vessels, lesions, and what a camera makes of them.

Eye coordinates: the fovea is (0, 0), x points to the nose, y up, and 1 is half the field of view (22.5 degrees). Lines
and lesions are drawn as masks on a canvas four times finer than the picture; blood absorbs (Beer-Lambert, green and
blue more than red), deposits reflect.
"""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageDraw
from scipy.ndimage import gaussian_filter, map_coordinates

from interscan.synthetic.eyes.lesions import DISC, Lesions, Line, walk

Array = npt.NDArray[np.float64]

_FINER = 4
"""Canvas pixels per picture pixel: the finest line, 0.6 of a pixel, is two or three wide there."""
_TEXTURE_EDGE = 160
"""Grid points of the choroid's texture over [-1.6, 1.6] in both directions."""


@dataclass(frozen=True, slots=True)
class FundusLook:
    """How things look, fixed before the first comparison of methods; a change is recorded in docs/log.md.

    Colours are linear (red, green, blue) in 0..1; absorbances are natural logarithms per channel.

    Attributes:
        fair, dark: colour of the retina with least and most pigment; a person lies anywhere between.
        texture: relative standard deviation of the choroid's mottling.
        disc, cup: colour of the optic disc and of its centre.
        macula: absorbance at the fovea, and its radius.
        artery, vein: absorbance of vessels; veins are darker and wider.
        vessel_width: width of a trunk at the disc; twice the anatomical width, so that it spans two pixels at 96 px.
        blood: absorbance of microaneurysms and haemorrhages.
        new_vessel: absorbance of new vessels, which are thin.
        exudate: colour and opacity of hard exudates.
        druse: colour and opacity of drusen, harmless pale specks that have nothing to do with the grade.
    """

    fair: tuple[float, float, float] = (0.84, 0.44, 0.22)
    dark: tuple[float, float, float] = (0.56, 0.25, 0.12)
    texture: float = 0.05
    disc: tuple[float, float, float] = (0.95, 0.72, 0.44)
    cup: tuple[float, float, float] = (1.0, 0.88, 0.66)
    macula: tuple[tuple[float, float, float], float] = ((0.25, 0.45, 0.5), 0.17)
    artery: tuple[float, float, float] = (0.12, 0.55, 0.45)
    vein: tuple[float, float, float] = (0.35, 0.85, 0.6)
    vessel_width: float = 0.042
    blood: tuple[float, float, float] = (0.55, 1.3, 1.0)
    new_vessel: tuple[float, float, float] = (0.25, 1.0, 0.8)
    exudate: tuple[tuple[float, float, float], float] = ((1.0, 0.86, 0.42), 0.9)
    druse: tuple[tuple[float, float, float], float] = ((0.95, 0.72, 0.4), 0.35)


LOOK = FundusLook()


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera.

    Attributes:
        name: as the tables call it.
        gains: gain of each channel.
        gamma: exponent of the tone curve.
        blur: width of the optics' blur, as a share of the picture's edge.
        vignette: loss of light at the edge of the field.
        noise: standard deviation of the read-out noise.
        cut: where the round field is cut off at top and bottom, as a share of its radius; 1 for nowhere.
    """

    name: str
    gains: tuple[float, float, float]
    gamma: float
    blur: float
    vignette: float
    noise: float
    cut: float


CAMERAS: tuple[Camera, Camera] = (
    Camera("hazel-45", (1.0, 1.0, 1.0), 0.9, 0.003, 0.30, 0.008, 1.0),
    Camera("linden-45", (0.9, 1.12, 1.35), 1.05, 0.005, 0.45, 0.014, 0.84),
)
"""A newer camera and one that is bluer, softer, noisier and cuts the field off; both show 45 degrees."""


@dataclass(frozen=True, slots=True)
class Person:
    """What both eyes share; nothing here knows about severity.

    Attributes:
        pigment: 0 fair to 1 dark.
        num_drusen: in each eye.
    """

    pigment: float
    num_drusen: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Person":
        """Draw a person: any pigment; 2 to 10 drusen in one of three."""
        pigment, has_drusen, count = rng.uniform(), rng.random() < 1 / 3, int(rng.integers(2, 10, endpoint=True))
        return cls(float(pigment), count if has_drusen else 0)


@dataclass(frozen=True, slots=True)
class _Vessel:
    """A line with the width at each of its points, and whether it is a vein."""

    line: Line
    is_vein: bool


def draw_fundus(
    camera: Camera,
    person: Person,
    lesions: Lesions,
    *,
    is_right: bool,
    eye_rng: np.random.Generator,
    image_rng: np.random.Generator,
    size_px: int = 96,
) -> npt.NDArray[np.uint8]:
    """Draw a picture.

    Args:
        camera: which one.
        person: whose eye.
        lesions: the eye's lesions, in eye coordinates.
        is_right: a right eye has the nose on the right of the picture.
        eye_rng: vessels, disc and texture: a stream that starts anew for each picture of an eye.
        image_rng: gaze, focus, exposure, tint, illumination and noise.
        size_px: H and W.

    Returns:
        uint8 (H, W, 3), red, green, blue; black outside the field.
    """
    vessels = tuple(_vessels(eye_rng))
    disc_radius, cup_share = float(eye_rng.uniform(0.105, 0.135)), float(eye_rng.uniform(0.3, 0.55))
    texture = gaussian_filter(eye_rng.standard_normal((_TEXTURE_EDGE, _TEXTURE_EDGE)), 3.0)
    texture += 1.5 * gaussian_filter(eye_rng.standard_normal(texture.shape), 12.0) * 4
    texture *= LOOK.texture / texture.std()
    drusen_N3 = np.column_stack([eye_rng.uniform(-0.6, 0.6, (12, 2)), eye_rng.uniform(0.012, 0.022, 12)])

    view = _View.draw(image_rng, is_right=is_right, size_px=size_px)
    x_HW, y_HW = view.pixels()
    steps = (_TEXTURE_EDGE - 1) / 3.2
    mottling_HW = map_coordinates(texture, [(1.6 - y_HW) * steps, (x_HW + 1.6) * steps], order=1, mode="nearest")
    fair, dark = np.array(LOOK.fair), np.array(LOOK.dark)
    picture = (fair + (dark - fair) * person.pigment) * (1 + mottling_HW[..., None])
    absorbance, radius = LOOK.macula
    picture *= _absorbed(np.exp(-(x_HW**2 + y_HW**2) / (2 * radius**2)), absorbance)

    from_disc_HW = np.hypot((x_HW - DISC[0]) * 1.08, y_HW - DISC[1]) / disc_radius
    picture = _blend(picture, LOOK.disc, 1 / (1 + np.exp((from_disc_HW - 1) * 14)))
    picture = _blend(picture, LOOK.cup, 0.8 / (1 + np.exp((from_disc_HW / cup_share - 1) * 6)))
    colour, opacity = LOOK.druse
    picture = _blend(picture, colour, opacity * view.spots(drusen_N3[: person.num_drusen]))
    for is_vein, vessel_absorbance in ((False, LOOK.artery), (True, LOOK.vein)):
        lines = [vessel.line for vessel in vessels if vessel.is_vein is is_vein]
        picture *= _absorbed(view.lines(lines), vessel_absorbance)
    colour, opacity = LOOK.exudate
    picture = _blend(picture, colour, opacity * view.spots(lesions.exudates_N3))
    picture *= _absorbed(view.spots(np.concatenate([lesions.dots_N3, lesions.blots_N3])), LOOK.blood)
    picture *= _absorbed(view.lines(lesions.new_vessels), LOOK.new_vessel)
    return _photograph(picture, camera, image_rng)


def png(picture_HWC: npt.NDArray[np.uint8]) -> bytes:
    """The picture as a PNG file."""
    content = io.BytesIO()
    Pillow.fromarray(picture_HWC).save(content, format="PNG")
    return content.getvalue()


def _photograph(picture: Array, camera: Camera, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Uneven light, exposure and tint, blur, noise, tone curve, and the edge of the field."""
    edge = len(picture)
    row_HW, column_HW = (np.indices((edge, edge)) + 0.5) * (2 / edge) - 1
    towards = rng.uniform(0, 2 * math.pi)
    tilt_HW = 1 + rng.uniform(0, 0.25) * (column_HW * math.cos(towards) + row_HW * math.sin(towards))
    light_HW = tilt_HW * (1 - camera.vignette * (row_HW**2 + column_HW**2))
    tint = np.array(camera.gains) * np.exp(rng.normal(0, (0.04, 0.08, 0.12))) * math.exp(rng.normal(0, 0.1))
    picture = picture * light_HW[..., None] * tint
    sigma_px = edge * math.hypot(camera.blur, rng.uniform(0, 0.005))
    picture = gaussian_filter(picture, (sigma_px, sigma_px, 0))
    picture += rng.normal(0, camera.noise, picture.shape)
    picture = np.clip(picture, 0, 1) ** camera.gamma
    inside_HW = (np.hypot(row_HW, column_HW) < 0.97) & (np.abs(row_HW) < 0.97 * camera.cut)
    return np.asarray(np.rint(255 * picture * inside_HW[..., None]), np.uint8)


def _absorbed(mask_HW: Array, absorbance: tuple[float, float, float]) -> Array:
    return np.asarray(np.exp(-mask_HW[..., None] * np.array(absorbance)))


def _blend(picture: Array, colour: tuple[float, float, float], alpha_HW: Array) -> Array:
    return picture + alpha_HW[..., None] * (np.array(colour) - picture)


@dataclass(frozen=True, slots=True)
class _View:
    """From eye coordinates to the picture: gaze, a tilted head, and which eye it is."""

    centre: tuple[float, float]
    angle: float
    is_right: bool
    size_px: int

    @classmethod
    def draw(cls, rng: np.random.Generator, *, is_right: bool, size_px: int) -> "_View":
        """Between fovea and disc, up to 1.5 degrees off and 6 degrees rotated."""
        centre = (float(0.14 + rng.uniform(-0.07, 0.07)), float(rng.uniform(-0.07, 0.07)))
        return cls(centre, math.radians(rng.uniform(-6, 6)), is_right, size_px)

    def pixels(self) -> tuple[Array, Array]:
        """Eye coordinates of the middle of each pixel."""
        row_HW, column_HW = (np.indices((self.size_px, self.size_px)) + 0.5) * (2 / self.size_px) - 1
        right_HW, up_HW = column_HW if self.is_right else -column_HW, -row_HW
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return cos * right_HW - sin * up_HW + self.centre[0], sin * right_HW + cos * up_HW + self.centre[1]

    def spots(self, spots_N3: Array) -> Array:
        """Discs of x, y and radius as a mask in 0..1."""
        canvas = self._canvas()
        pen = ImageDraw.Draw(canvas)
        half = _FINER * self.size_px / 2
        for (x, y), radius in zip(self._to_pixels(spots_N3[:, :2]), spots_N3[:, 2] * half, strict=True):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        return self._mask(canvas)

    def lines(self, lines: "list[Line] | tuple[Line, ...]") -> Array:
        """Lines with their widths as a mask in 0..1."""
        canvas = self._canvas()
        pen = ImageDraw.Draw(canvas)
        half = _FINER * self.size_px / 2
        for line in lines:
            pixels_N2 = self._to_pixels(line.points_N2)
            for start, end, width in zip(pixels_N2[:-1], pixels_N2[1:], line.widths_N[1:] * half, strict=True):
                pen.line((*start, *end), fill=255, width=max(1, round(width)))
        return self._mask(canvas)

    def _to_pixels(self, points_N2: Array) -> Array:
        x_N, y_N = points_N2[:, 0] - self.centre[0], points_N2[:, 1] - self.centre[1]
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        right_N, up_N = cos * x_N + sin * y_N, cos * y_N - sin * x_N
        half = _FINER * self.size_px / 2
        return np.column_stack([(right_N if self.is_right else -right_N) + 1, 1 - up_N]) * half

    def _canvas(self) -> Pillow.Image:
        return Pillow.new("L", (_FINER * self.size_px, _FINER * self.size_px))

    def _mask(self, canvas: Pillow.Image) -> Array:
        return np.asarray(canvas.reduce(_FINER), np.float64) / 255


def _vessels(rng: np.random.Generator) -> Iterator[_Vessel]:
    """Two temporal arcades around the macula, two nasal trunks, and twigs to the macula; an artery and a vein each."""
    for is_vein in (False, True):
        width = LOOK.vessel_width * (1.0 if is_vein else 0.75)
        for up in (1, -1):
            turn = up * rng.normal(0.06 if is_vein else -0.06, 0.05)
            temporal = up * math.radians(rng.uniform(108, 120)) + turn
            yield from _grow(DISC, temporal, width, 1.7, up * rng.uniform(1.05, 1.3), is_vein, 2, rng)
            nasal = up * math.radians(rng.uniform(35, 65)) + turn
            yield from _grow(DISC, nasal, 0.75 * width, 0.8, -up * rng.uniform(0.1, 0.6), is_vein, 1, rng)
            twig = up * math.radians(rng.uniform(150, 168)) + turn
            yield from _grow(DISC, twig, 0.45 * width, 0.5, up * rng.uniform(-0.2, 0.2), is_vein, 1, rng)


def _grow(
    start: tuple[float, float],
    heading: float,
    width: float,
    length: float,
    bend: float,
    is_vein: bool,
    orders: int,
    rng: np.random.Generator,
) -> Iterator[_Vessel]:
    """A vessel that tapers to half its width, and its branches; none reaches the fovea, which has no vessels."""
    points_N2, headings_N = walk(start, heading, length, bend=bend, wobble=0.07, rng=rng)
    near = np.hypot(points_N2[:, 0], points_N2[:, 1]) < 0.15
    count = int(np.argmax(near)) if near.any() else len(points_N2)
    widths_N = width * np.linspace(1, 0.5, len(points_N2))
    if count > 1:
        yield _Vessel(Line(points_N2[:count], widths_N[:count]), is_vein)
    side = 1 if rng.random() < 0.5 else -1
    at = int(rng.integers(4, 8))
    while orders and at < count - 2:
        away = headings_N[at] + side * rng.uniform(0.5, 0.95)
        shorter = length * rng.uniform(0.3, 0.5)
        fork = (float(points_N2[at, 0]), float(points_N2[at, 1]))
        yield from _grow(fork, away, 0.7 * widths_N[at], shorter, -side * 0.6, is_vein, orders - 1, rng)
        side, at = -side, at + int(rng.integers(4, 8))
