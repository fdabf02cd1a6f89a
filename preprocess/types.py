"""The nouns that all parts share: kind, scan, image, volume, finding, progression.

Axes are RAS+ in millimetres: voxels_CDHW has C channels, then right, anterior and superior.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Progression = Literal["improved", "stable", "declined"]
PROGRESSIONS: tuple[Progression, ...] = ("improved", "stable", "declined")
"""The order of the three classes everywhere: label 0, 1, 2 and the columns of `compare`."""

Kind = Literal["volume", "clip", "image", "array"]
"""What a modality's rows are: (C, D, H, W), (T, C, H, W), (C, H, W), or (F,) and (R, F)."""

SourceKind = Literal["auto", "dicom", "oasis3", "adni"]
"""What `--source-kind` may be; `auto` looks at the source: BIDS, a plain folder, a table, or DICOM series."""

MAX_VOXELS = 2**28
"""1 GiB as float32, ten times a 0.8 mm head: a header that asks for more is a bad or hostile file."""

FloatArray = npt.NDArray[np.float32]
Affine = npt.NDArray[np.float64]
Voxels = npt.NDArray[np.float32 | np.integer[Any]]
"""Grey values as read: float32, or integers of 8 or 16 bits."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One quality remark about a scan.

    Attributes:
        code: short stable name, for example `too_coarse`.
        message: one line with what, the value, the limit and the remedy.
        leaves_out: whether the scan is left out because of it.
    """

    code: str
    message: str
    leaves_out: bool = True


@dataclass(frozen=True, slots=True)
class Scan:
    """One acquired image as a source lists it, not yet read.

    Attributes:
        subject_id: the person, for example `sub-03`.
        session_id: the visit, for example `ses-02`.
        run: distinguishes repeats within a session; empty when there is one.
        modality: BIDS suffix, for example `T1w`.
        day: days since the subject's first visit; None when the source does not say.
        uri: where the file lies (path or fsspec URL).
        site: acquisition site, empty when unknown.
        scanner: scanner name, empty when unknown.
        outcomes: scores of that visit by name, for example `{"mmse": 27.0}`; absent scores are left out.
        cohort: name of the data set within which `subject_id` is unique; empty when it has none.
        parts: files that the scan is made of, relative to the source, as a DICOM series is; empty where `uri` is it.
        shown: what messages call its file where the file's own name may not be said; else empty.
        mask_uri: where its brain mask lies (path or fsspec URL); empty where none was given.
    """

    subject_id: str
    session_id: str
    modality: str
    uri: str
    run: str = ""
    day: float | None = None
    site: str = ""
    scanner: str = ""
    outcomes: dict[str, float] = field(default_factory=dict)
    cohort: str = ""
    parts: tuple[str, ...] = field(default=(), repr=False)
    shown: str = ""
    mask_uri: str = field(default="", repr=False)

    @property
    def num_files(self) -> int:
        """Files that the scan is made of."""
        return len(self.parts) or 1

    @property
    def visit(self) -> tuple[str, str, str]:
        """Subject, session and run: what one row of the store stands for."""
        return (self.subject_id, self.session_id, self.run)

    @property
    def name(self) -> str:
        """What messages call the scan, for example `sub-03_ses-02_T1w`."""
        return "_".join(part for part in (self.subject_id, self.session_id, self.run, self.modality) if part)


@dataclass(frozen=True, slots=True)
class Image:
    """A scan's voxels as read.

    Attributes:
        voxels_XYZ: in real units (slope and intercept applied), 3D once quality has passed; 8- and 16-bit integers stay
            what they are where the file asks for no other scale, all else is float32.
        affine: voxel index to RAS+ millimetres.
        dtype: the dtype on disk.
        findings: remarks on the header; none of them leaves the scan out.
    """

    voxels_XYZ: Voxels
    affine: Affine
    dtype: str
    findings: tuple[Finding, ...] = ()

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel edge lengths along the three array axes, in mm."""
        edges = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(edges[0]), float(edges[1]), float(edges[2]))


@dataclass(frozen=True, slots=True)
class TissueFit:
    """Three tissues and the coil's shading, as fitted to the middle of a head; see `preprocess.tissue.fit_tissue`.

    Attributes:
        means: grey value of CSF, grey and white matter without shading; in an index in percentile brightness, where 1
            is the second of the recipe's `intensity_percentiles`.
        fractions: share of each in the fitted region, 1 together.
        contrast: distance of grey from white matter in standard deviations of one tissue.
        bias: the shading's 95th percentile in the fitted region over its 5th; 1 is none.
        depth: how much nearer white matter lies to the middle than grey matter, in radii of the fitted region; below 0
            the brightest tissue is no white matter.
        field: coefficients of the shading's logarithm; 1, then powers of right, anterior and superior up to the second.
    """

    means: tuple[float, ...]
    fractions: tuple[float, ...]
    contrast: float
    bias: float
    depth: float
    field: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Preparation:
    """What was done to one scan beyond the resampling, as a recipe asked for it; see docs/preparation.md.

    Attributes:
        bias_ratio: 95th percentile of the shading that was divided out, within the head, over its 5th; None where none
            was.
        bias_iterations: steps of N4 at its finest level; None where there were none.
        registered_to: `subject` or `template`; `alone` for the only scan of its person, `failed` where a finding says
            why it stayed where it was, and empty where nothing was to be registered.
        num_registered: scans in the mean, this one included; 0 without one.
        turn_deg: angle by which the scan was turned.
        shift_mm: by how much the middle of its head was moved beyond being put into the middle of the box.
        agreement: correlation of details with the mean of the others within the brain; for the template the share of
            variance that it explains.
        mask_ml: brain within the mask that was applied, in millilitres; None where none was.
        mask_sha256: digest of the mask's file; empty where none was applied.
    """

    bias_ratio: float | None = None
    bias_iterations: int | None = None
    registered_to: str = ""
    num_registered: int = 0
    turn_deg: float | None = None
    shift_mm: float | None = None
    agreement: float | None = None
    mask_ml: float | None = None
    mask_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Volume:
    """A scan after preprocessing, as the store holds it.

    Attributes:
        voxels_CDHW: stored dtype (uint8 by default, scale 1/255), axes RAS+.
        affine: grid index to the scan's own RAS+ millimetres.
        findings: remarks on how it was made; none of them leaves it out.
        tissue: what was fitted to its grey values, plausible or not; None where the recipe asks for no fit.
    """

    voxels_CDHW: npt.NDArray[np.generic]
    affine: Affine
    findings: tuple[Finding, ...] = ()
    tissue: TissueFit | None = None
