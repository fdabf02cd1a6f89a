"""Writes the service's bundled example: three visits of a synthetic person, `python -m tests.support.example`.

The person is chosen by the generator's plan alone, before any model has answered: the first of the cohort who declines
and was always on one scanner. The cohort's seed is none that a demo trains on, so no model has seen this person.
"""

import gzip
import json
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from interscan.synthetic.brain.bids import image_path
from interscan.synthetic.brain.cohort import write_brain_cohort
from interscan.synthetic.brain.plan import PlannedSubject, describe_brain_cohort

FOLDER = Path(__file__).resolve().parents[2] / "app" / "example_scans"
SEED = 2902
NUM_SUBJECTS = 12
SPACING_MM = 2.0
"""As the demo's scans."""
NAMES = ("earlier", "middle", "later")


def chosen() -> PlannedSubject:
    """The person of the example."""
    for subject in describe_brain_cohort(num_subjects=NUM_SUBJECTS, num_visits=3, seed=SEED):
        visits = [session for session in subject.sessions if not session.rescan_of]
        if subject.trajectory == "declining" and len({visit.scanner for visit in visits}) == 1:
            return subject
    raise AssertionError("no such person; take another seed")


def make(folder: Path) -> dict[str, nib.Nifti1Image]:
    """Generate the three scans, by name.

    Args:
        folder: where the cohort is written.
    """
    number = int(chosen().subject_id.removeprefix("sub-"))
    write_brain_cohort(folder, num_subjects=number, seed=SEED, spacing_mm=SPACING_MM, workers=1)
    visits = [session for session in chosen().sessions if not session.rescan_of]
    found = {}
    for name, visit in zip(NAMES, visits, strict=True):
        image = nib.load(folder / image_path(chosen(), visit))
        voxels_XYZ = np.asarray(image.dataobj, dtype=np.float64)
        # A byte a voxel: the noise is a hundredth of the range, and the file is a third smaller.
        packed_XYZ = np.round(voxels_XYZ * 255 / voxels_XYZ.max()).astype(np.uint8)
        small = nib.Nifti1Image(packed_XYZ, image.affine)
        small.header.set_xyzt_units("mm", "sec")
        found[name] = small
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cohort:
        for name, image in make(Path(cohort) / "cohort").items():
            (FOLDER / f"{name}.nii.gz").write_bytes(gzip.compress(image.to_bytes(), 9, mtime=0))
    days = [session.day for session in chosen().sessions if not session.rescan_of]
    print(json.dumps(dict(zip(NAMES, days, strict=True))))
