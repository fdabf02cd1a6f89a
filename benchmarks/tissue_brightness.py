"""What brightness by tissue is worth beside percentiles: spread of tissues, differences between scans, seconds.

    python -m benchmarks.tissue_brightness ../shared/data                      the figures of decision 20
    python -m benchmarks.tissue_brightness ../shared/data --pictures FOLDER    slices before and after as well

Brightness is given in per cent of the distance from CSF to white matter of the same volume, since the two ways use
different parts of the range. True tissues of synthetic heads are painted with the scan's own anatomy and pose; pure
voxels hold at least 95 % of one.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import affine_transform
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from interscan.synthetic.brain.layers_brain import brain_layers
from interscan.synthetic.brain.layers_head import head_layers
from interscan.synthetic.brain.phantom import Tissue
from interscan.synthetic.brain.plan import PlannedSession, describe_brain_cohort, scan_stream, subject_anatomy
from interscan.synthetic.brain.render import paint
from interscan.synthetic.brain.scanner import acquire, grid_of
from interscan.synthetic.pose import draw_pose
from preprocess.readers import read_nifti
from preprocess.recipe import VolumeRecipe
from preprocess.tissue import STORED_MEANS, contrast_findings, fit_tissue, to_tissue_brightness
from preprocess.transforms import resample, to_volume
from preprocess.types import Affine, FloatArray, Image, TissueFit

RECIPES = {way: VolumeRecipe(dtype="float32", intensity=way) for way in ("percentile", "tissue")}
CLASSES = {
    "CSF": (Tissue.CSF, Tissue.VENTRICLE),
    "grey matter": (Tissue.CORTEX, Tissue.DEEP_GREY, Tissue.HIPPOCAMPUS),
    "white matter": (Tissue.WHITE,),
}
PURE = 0.95


@dataclass(frozen=True, slots=True)
class Seen:
    """One scan both ways: volumes, where the head lies, true shares of the three tissues where they are known."""

    volumes: dict[str, FloatArray]
    affine: Affine
    fit: TissueFit
    shares: tuple[FloatArray, ...] = ()
    to_head: Affine | None = None

    def span(self, way: str) -> float:
        """Brightness of white matter less that of CSF."""
        if not self.shares:
            csf, _, white = self.fit.means if way == "percentile" else STORED_MEANS
            return white - csf
        csf, _, white = self.means(way)
        return float(white - csf)

    def means(self, way: str) -> np.ndarray:
        """Mean brightness of pure voxels of each tissue."""
        return np.array([self.volumes[way][share > PURE].mean() for share in self.shares])


def seen(image: Image, name: str) -> Seen:
    made = {way: to_volume(image, recipe, name=name) for way, recipe in RECIPES.items()}
    fit = made["tissue"].tissue
    assert fit is not None
    return Seen({way: volume.voxels_CDHW[0] for way, volume in made.items()}, made["tissue"].affine, fit)


def synthetic(seed: int, number: int, session: PlannedSession, spacing_mm: float) -> Seen:
    """A scan of `interscan synth brain` with its truth."""
    grid, anatomy = grid_of(session.machine, spacing_mm), subject_anatomy(seed, number)
    voxels_XYZ = acquire(anatomy, session.atrophy, session.machine, grid, scan_stream(seed, number, session))
    scan = seen(Image(voxels_XYZ.astype(np.float32), grid.affine, "int16"), session.session_id)
    pose = draw_pose(scan_stream(seed, number, session))
    shares = []
    for tissues in CLASSES.values():
        palette = np.zeros(len(Tissue), np.float32)
        palette[list(tissues)] = 1
        painted = paint([*head_layers(anatomy), *brain_layers(anatomy, session.atrophy)], grid, pose, palette)
        recipe = RECIPES["tissue"]
        shares.append(resample(Image(painted, grid.affine, "float32"), scan.affine, recipe.grid))
    to_head = np.linalg.inv(nib.affines.from_matvec(pose.rotation, pose.shift_mm)) @ scan.affine
    return replace(scan, shares=tuple(shares), to_head=to_head)


def difference(first: FloatArray, second: FloatArray, step: Affine, inside: np.ndarray) -> float:
    """Mean absolute difference where `inside`, the second volume taken to the first's grid."""
    moved = affine_transform(second, step[:3, :3], step[:3, 3], order=1)
    return float(np.abs(first - moved)[inside].mean())


def print_synthetic(num_subjects: int, spacing_mm: float) -> None:
    scans: dict[tuple[int, str], tuple[PlannedSession, Seen]] = {}
    for subject in describe_brain_cohort(num_subjects=num_subjects, seed=0):
        for session in subject.sessions:
            scans[subject.number, session.session_id] = session, synthetic(0, subject.number, session, spacing_mm)
    failed = sum(bool(contrast_findings(scan.fit, name="x")) for _, scan in scans.values())
    print(f"\nSynthetic cohort, {len(scans)} scans of {num_subjects} people; fits that failed: {failed}")
    for way in RECIPES:
        span = np.mean([scan.span(way) for _, scan in scans.values()])
        means = np.array([scan.means(way) for _, scan in scans.values()]) * 100 / span
        machine = np.array([session.machine.name for session, _ in scans.values()])
        names = sorted(set(machine))
        gap = np.abs(np.subtract(*[means[machine == name].mean(axis=0) for name in names]))
        within = [scan.volumes[way][scan.shares[2] > PURE].std() / scan.span(way) * 100 for _, scan in scans.values()]
        print(
            f"{way:11s} sd of the means over scans {listed(means.std(axis=0))}; between the two scanners "
            f"{listed(gap)}; sd of white matter within a scan {np.mean(within):.2f}"
        )
    for title, pairs in (("rescans of a day", list(rescans(scans))), ("visits on two scanners", list(changes(scans)))):
        found: dict[str, list[float]] = {way: [] for way in RECIPES}
        for first, second in pairs:
            inside = sum(first.shares) > PURE
            for way in RECIPES:
                step = np.linalg.inv(second.to_head) @ first.to_head
                gap = difference(first.volumes[way], second.volumes[way], step, inside)
                found[way].append(100 * gap / first.span(way))
        print(title, f"({len(pairs)} pairs):", {way: f"{np.mean(gaps):.2f}" for way, gaps in found.items()}, end=" ")
        print("smaller by tissue in", sum(t < p for p, t in zip(*found.values(), strict=True)))


def listed(numbers: np.ndarray) -> str:
    """CSF, grey and white matter."""
    return " ".join(f"{number:.2f}" for number in numbers)


def rescans(scans: dict[tuple[int, str], tuple[PlannedSession, Seen]]) -> Iterator[tuple[Seen, Seen]]:
    for (number, _), (session, scan) in scans.items():
        if session.rescan_of:
            yield scans[number, session.rescan_of][1], scan


def changes(scans: dict[tuple[int, str], tuple[PlannedSession, Seen]]) -> Iterator[tuple[Seen, Seen]]:
    for ((number, _), (before, first)), ((other, _), (after, second)) in pairwise(scans.items()):
        if number == other and before.scanner != after.scanner:
            yield first, second


def middle(shape: tuple[int, ...] = (96, 96, 96)) -> np.ndarray:
    """An ellipsoid of half axes 60, 76 and 54 mm, nearly all brain and a little larger than the fitted region."""
    axes = [(np.arange(count) - (count - 1) / 2) * 2.0 for count in shape]
    x, y, z = axes[0][:, None, None] / 60, (axes[1][:, None] + 4) / 76, (axes[2] - 8) / 54
    found: np.ndarray = x**2 + y**2 + z**2 <= 1
    return found


def registered(first: FloatArray, second: FloatArray) -> Affine:
    """The rigid step from the first grid to the second with the highest correlation in the middle of the head."""
    inside, centre = middle(), (np.array(first.shape) - 1) / 2

    def step_of(six: np.ndarray) -> Affine:
        turn = Rotation.from_rotvec(six[:3] / 40).as_matrix()
        return nib.affines.from_matvec(turn, centre - turn @ centre + six[3:])

    def cost(six: np.ndarray) -> float:
        step = step_of(six)
        moved = affine_transform(second, step[:3, :3], step[:3, 3], order=1)
        return -float(np.corrcoef(first[inside], moved[inside])[0, 1])

    found = minimize(cost, np.zeros(6), method="Powell", options={"maxfev": 400, "xtol": 0.02, "ftol": 1e-5})
    return step_of(found.x)


def t1w_paths(data: Path) -> list[Path]:
    visits = sorted(data.glob("mri_longitudinal/*/*/anat/*_T1w.nii.gz"))
    return [*sorted(data.glob("mri_age/*.nii.gz")), data / "mni" / "mni152_t1_2mm_RAS.nii.gz", *visits]


def read(path: Path) -> Image:
    return read_nifti(path.read_bytes(), name=path.name)


def print_fits(data: Path) -> dict[str, Seen]:
    scans = {path.name.split(".")[0]: seen(read(path), path.name) for path in t1w_paths(data)}
    others = sorted(path for path in data.glob("mri_longitudinal/*/*/anat/*.nii.gz") if "T1w" not in path.name)
    fits = {name: scan.fit for name, scan in scans.items()}
    for path in others:
        fit = to_volume(read(path), RECIPES["tissue"], name=path.name).tissue
        assert fit is not None
        fits[path.name.split(".")[0]] = fit
    print("\nReal scans: CSF and grey matter over white matter, shares, contrast, shading, depth, findings")
    for name, fit in fits.items():
        ratio, shares = np.array(fit.means) / fit.means[2], [f"{share:.2f}" for share in fit.fractions]
        codes = [finding.code for finding in contrast_findings(fit, name=name)]
        numbers = f"{fit.contrast:.1f} {fit.bias:.2f} {fit.depth:.3f}"
        print(f"{name:22s} {ratio[0]:.3f} {ratio[1]:.3f}  {shares}  {numbers}", codes)
    return scans


def print_visits(scans: dict[str, Seen]) -> None:
    for subject in ("sub-01", "sub-12"):
        first, second = (scan for name, scan in scans.items() if name.startswith(subject))
        step = registered(first.volumes["percentile"], second.volumes["percentile"])
        gaps = {
            way: 100 * difference(first.volumes[way], second.volumes[way], step, middle()) / first.span(way)
            for way in RECIPES
        }
        print(f"{subject}, two visits, registered:", {way: f"{gap:.2f}" for way, gap in gaps.items()})


def disturbed(image: Image, rng: np.random.Generator) -> Image:
    """The scan with another gain, noise of 2 %, and a shading of second order, 0.8 to 1.2 over the field of view."""
    axes = [np.linspace(-1, 1, count) for count in image.voxels_XYZ.shape]
    x, y, z = axes[0][:, None, None], axes[1][:, None], axes[2]
    weights = rng.normal(size=9)
    terms = (x, y, z, x * x, y * y, z * z, x * y, x * z, y * z)
    shade = sum(weight * term for weight, term in zip(weights, terms, strict=True))
    shade = 0.8 + 0.4 * (shade - shade.min()) / np.ptp(shade)
    noise = rng.normal(0, 0.02 * np.percentile(image.voxels_XYZ, 95), shade.shape)
    return replace(image, voxels_XYZ=(rng.uniform(0.5, 2) * (image.voxels_XYZ * shade + noise)).astype(np.float32))


def print_disturbed(data: Path, scans: dict[str, Seen]) -> None:
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {way: [] for way in RECIPES}
    for path in t1w_paths(data):
        image, plain = read(path), scans[path.name.split(".")[0]]
        for _ in range(3):
            other = seen(disturbed(image, rng), path.name)
            step = np.linalg.inv(other.affine) @ plain.affine
            for way in RECIPES:
                gap = difference(plain.volumes[way], other.volumes[way], step, middle())
                found[way].append(100 * gap / plain.span(way))
    print(f"real heads with gain, 2 % noise and shading of 20 % ({len(found['tissue'])} scans):", end=" ")
    print({way: f"{np.mean(gaps):.2f}, at most {np.max(gaps):.2f}" for way, gaps in found.items()})


def print_seconds(scan: Seen) -> None:
    values = scan.volumes["percentile"]
    for edge in (1, 2):
        part = np.ascontiguousarray(values[::edge, ::edge, ::edge])
        seconds = []
        for _ in range(7):
            begun = time.process_time()
            fit = fit_tissue(part, 2.0 * edge)
            assert fit is not None
            fitted = time.process_time()
            to_tissue_brightness(part, fit, 2.0 * edge)
            seconds.append((fitted - begun, time.process_time() - fitted))
        fit_s, map_s = np.median(seconds, axis=0)
        print(f"{len(part)}^3: fit {1000 * fit_s:.0f} ms, mapping {1000 * map_s:.0f} ms of one core")


def draw(scans: dict[str, Seen], folder: Path) -> None:
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(len(scans), 6, figsize=(15, 2.5 * len(scans)), squeeze=False)
    for row, (name, scan) in zip(axes, scans.items(), strict=True):
        for column, (way, volume) in enumerate(scan.volumes.items()):
            for number, slice_2d in enumerate((volume[48], volume[:, 48], volume[:, :, 52])):
                row[number * 2 + column].imshow(slice_2d.T, origin="lower", cmap="gray", vmin=0, vmax=1)
                row[number * 2 + column].set_title(f"{name[:18]} {way}", fontsize=7)
                row[number * 2 + column].axis("off")
    figure.tight_layout()
    figure.savefig(folder / "tissue_brightness.png", dpi=60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder with mri_age, mni and mri_longitudinal")
    parser.add_argument("--subjects", type=int, default=12, help="synthetic people")
    parser.add_argument("--pictures", type=Path, help="folder for slices of the real scans")
    arguments = parser.parse_args()
    if not (arguments.data / "mri_age").is_dir():
        parser.error(f"{arguments.data}: no folder mri_age in it; give the folder of real data")
    scans = print_fits(arguments.data)
    print_visits(scans)
    print_disturbed(arguments.data, scans)
    print_seconds(next(iter(scans.values())))
    if arguments.pictures:
        draw(scans, arguments.pictures)
    print_synthetic(arguments.subjects, spacing_mm=2.0)


if __name__ == "__main__":
    main()
