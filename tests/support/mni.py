"""Writes the MNI152 T1 template as a BIDS subject with two visits: a real brain to run every verb on, from a wheel.

The second visit is the same brain, rotated and shifted by known amounts and with new noise, as a repeat scan would be.
Usage: python tests/support/mni.py OUT
"""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from nilearn.datasets import load_mni152_template
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

ROTATION_DEG = (4.0, -3.0, 6.0)
"""About right, anterior and superior, around the scanner's centre."""
SHIFT_MM = (3.0, -5.0, 4.0)
NOISE = 0.02
"""Standard deviation, as a part of the brightest voxel."""
SPACING_MM = 1
GAP_DAYS = 180


def movement() -> np.ndarray:
    """The head's movement between the visits: RAS+ mm at the first visit to RAS+ mm at the second, 4 x 4."""
    moved = np.eye(4)
    moved[:3, :3] = Rotation.from_euler("xyz", ROTATION_DEG, degrees=True).as_matrix()
    moved[:3, 3] = SHIFT_MM
    return moved


def write_mni_pair(out: Path, *, seed: int = 0) -> tuple[Path, Path]:
    """Write the BIDS folder; returns the two images."""
    template = load_mni152_template(resolution=SPACING_MM)
    voxels = np.asarray(template.dataobj, dtype=np.float32)
    voxels = voxels / voxels.max() * 1000
    # What the second visit's voxel i shows is what the first visit showed where that voxel's point came from.
    back = np.linalg.inv(template.affine) @ np.linalg.inv(movement()) @ template.affine
    second = affine_transform(voxels, back[:3, :3], back[:3, 3], order=1)
    second = second + np.random.default_rng(seed).normal(0, NOISE * 1000, second.shape)
    paths = []
    for session, image in (("ses-01", voxels), ("ses-02", second)):
        path = out / "sub-mni" / session / "anat" / f"sub-mni_{session}_T1w.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.clip(image, 0, 32767).astype(np.int16), template.affine), path)
        paths.append(path)
    sessions = f"session_id\tdays_since_first\nses-01\t0\nses-02\t{GAP_DAYS}\n"
    (out / "sub-mni" / "sub-mni_sessions.tsv").write_text(sessions)
    description = {"Name": "MNI152 template as two visits", "BIDSVersion": "1.10.0"}
    (out / "dataset_description.json").write_text(json.dumps(description, indent=2))
    return paths[0], paths[1]


if __name__ == "__main__":
    print(*write_mni_pair(Path(sys.argv[1])), sep="\n")
