"""Reading NIfTI: every sane variant against nibabel's own numbers, every broken one refused in one line."""

import gzip
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.errors import ScanError
from preprocess.readers import read_nifti
from preprocess.types import Image
from tests.support.images import centred_affine, gz, nifti, patched

_RNG = np.random.default_rng(0)
VOXELS = _RNG.integers(0, 1000, (6, 7, 8)).astype(np.int16)
PLAIN = nifti(VOXELS)


def refusal(data: bytes, **options: int) -> str:
    """The code of the finding; its message is one line that names the scan."""
    with pytest.raises(ScanError) as caught:
        read_nifti(data, name="sub-01_T1w", **options)
    finding = caught.value.finding
    assert finding.message.startswith("sub-01_T1w: ")
    assert "\n" not in finding.message
    assert ";" in finding.message or "," in finding.message  # what, then the remedy
    assert finding.leaves_out
    return finding.code


def oracle(data: bytes, tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and affine as nibabel gives them."""
    path = tmp_path / ("x.nii.gz" if data[:2] == b"\x1f\x8b" else "x.nii")
    path.write_bytes(data)
    image = nib.load(path)
    return np.asarray(image.dataobj, dtype=np.float32), image.affine


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64", "int64"]
)
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("version", [1, 2])
def test_every_grey_dtype_byte_order_and_version_reads_as_nibabel_reads_it(
    dtype: str, big_endian: bool, version: int, tmp_path: Path
) -> None:
    low, high = (0, 200) if dtype.startswith("u") else (-100, 100)
    voxels = _RNG.integers(low, high, (4, 5, 6)).astype(dtype)
    data = nifti(voxels, centred_affine(voxels.shape, (1.0, 2.0, 3.0)), version=version, big_endian=big_endian)
    image = read_nifti(data, name="x")
    truth, affine = oracle(data, tmp_path)
    np.testing.assert_array_equal(image.voxels_XYZ, truth)
    np.testing.assert_array_equal(image.voxels_XYZ, voxels.astype(np.float32))
    np.testing.assert_allclose(image.affine, affine)
    # What holds 8 or 16 bits stays so, in this machine's byte order; the rest is float32.
    assert image.voxels_XYZ.dtype == (dtype if voxels.dtype.itemsize <= 2 else "float32")
    assert image.voxels_XYZ.dtype.isnative
    assert image.dtype == dtype
    assert image.spacing_mm == pytest.approx((1, 2, 3))


@pytest.mark.parametrize(("slope", "intercept"), [(14.07, 0.0), (2.0, -1024.0), (-1.0, 5.0), (0.0, 7.0), (1.0, 0.0)])
def test_slope_and_intercept_are_applied_and_a_slope_of_zero_means_none(
    slope: float, intercept: float, tmp_path: Path
) -> None:
    data = patched(PLAIN, scl_slope=slope, scl_inter=intercept)
    truth, _ = oracle(data, tmp_path)
    np.testing.assert_allclose(read_nifti(data, name="x").voxels_XYZ, truth, rtol=1e-6)
    expected = VOXELS * slope + intercept if slope else VOXELS
    np.testing.assert_allclose(read_nifti(data, name="x").voxels_XYZ, expected, rtol=1e-5, atol=1e-3)
    is_plain = slope == 0 or (slope, intercept) == (1.0, 0.0)
    assert read_nifti(data, name="x").voxels_XYZ.dtype == ("int16" if is_plain else "float32")


def test_an_image_is_the_same_gzipped_in_one_or_in_many_members() -> None:
    members = b"".join(gzip.compress(PLAIN[start : start + 400]) for start in range(0, len(PLAIN), 400))
    padded = b"".join(gzip.compress(part) + b"\0" * 70_000 for part in (PLAIN[:500], b"", PLAIN[500:]))
    for data in (gz(PLAIN), members, gz(PLAIN) + b"\0" * 512, padded):
        np.testing.assert_array_equal(read_nifti(data, name="x").voxels_XYZ, VOXELS)


def test_qform_places_the_scan_where_there_is_no_sform(tmp_path: Path) -> None:
    affine = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.2, 0.1, 0.3) * 2.0, [10, -20, 30])
    image = nib.Nifti1Image(VOXELS, affine)
    image.set_sform(None, code=0)
    image.set_qform(affine, code=1)
    np.testing.assert_allclose(read_nifti(image.to_bytes(), name="x").affine, affine, atol=1e-4)
    # qfac 0 stands for 1 (NIfTI-1, method 2); some writers leave it.
    np.testing.assert_allclose(read_nifti(patched(image.to_bytes(), pixdim0=0), name="x").affine, affine, atol=1e-4)


def test_trailing_axes_of_length_one_are_dropped_and_others_kept() -> None:
    assert read_nifti(nifti(VOXELS[..., None]), name="x").voxels_XYZ.shape == (6, 7, 8)
    assert read_nifti(nifti(VOXELS[..., None, None]), name="x").voxels_XYZ.shape == (6, 7, 8)
    assert read_nifti(nifti(np.stack([VOXELS, VOXELS], -1)), name="x").voxels_XYZ.shape == (6, 7, 8, 2)
    assert read_nifti(nifti(VOXELS[:, :, 0]), name="x").voxels_XYZ.shape == (6, 7)


def _flip(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :]


_NO_FORMS = {"sform_code": 0, "qform_code": 0}
BROKEN: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "truncated"),
    "a few bytes": (b"n+1", "truncated"),
    "web page": (b"\n <!DOCTYPE html><html><body>Sign in</body></html>" + b" " * 400, "not_nifti"),
    "gzipped web page": (gzip.compress(b"<html>" + b" " * 4000), "not_nifti"),
    "Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "not_nifti"),
    "other bytes": (bytes(range(256)) * 4, "not_nifti"),
    "header of a pair": (patched(PLAIN, magic=b"ni1"), "not_nifti"),
    "no magic": (patched(PLAIN, magic=b""), "not_nifti"),
    "cut voxels": (PLAIN[:-1], "truncated"),
    "cut gzip": (gz(PLAIN)[:-9], "truncated"),
    "cut gzip trailer": (gz(PLAIN)[:-2], "truncated"),
    "gzip header alone": (gz(PLAIN)[:12], "truncated"),
    "bad gzip checksum": (_flip(gz(PLAIN), len(gz(PLAIN)) - 6), "truncated"),
    "bad gzip length": (_flip(gz(PLAIN), len(gz(PLAIN)) - 2), "truncated"),
    "whole stream of a cut file": (gz(PLAIN[:-50]), "truncated"),
    "bad checksum of the second member": (
        _flip(gz(PLAIN[:500]) + gz(PLAIN[500:]), len(gz(PLAIN[:500]) + gz(PLAIN[500:])) - 6),
        "truncated",
    ),
    "cut second member": ((gz(PLAIN[:500]) + gz(PLAIN[500:]))[:-9], "truncated"),
    "garbage behind the second member": (gz(PLAIN[:500]) + gz(PLAIN[500:]) + b"x", "trailing_bytes"),
    "unknown packing": (_flip(gz(PLAIN), 2), "truncated"),
    "garbage behind gzip": (gz(PLAIN) + b"garbage", "trailing_bytes"),
    "second scan behind gzip": (gz(PLAIN) + gz(PLAIN), "trailing_bytes"),
    "garbage behind voxels": (PLAIN + b"garbage", "trailing_bytes"),
    "NaN slope": (patched(PLAIN, scl_slope=np.nan), "bad_scale"),
    "infinite slope": (patched(PLAIN, scl_slope=np.inf), "bad_scale"),
    "NaN intercept": (patched(PLAIN, scl_slope=2, scl_inter=np.nan), "bad_scale"),
    "singular affine": (patched(PLAIN, srow_x=[0, 0, 0, 1], sform_code=1), "bad_geometry"),
    "NaN affine": (patched(PLAIN, srow_x=[np.nan, 0, 0, 1], sform_code=1), "bad_geometry"),
    "zero zoom": (patched(PLAIN, pixdim2=0, **_NO_FORMS), "bad_geometry"),
    "negative zoom": (patched(PLAIN, pixdim2=-2, **_NO_FORMS), "bad_geometry"),
    "NaN zoom": (patched(PLAIN, pixdim3=np.nan, **_NO_FORMS), "bad_geometry"),
    "zero zoom under a qform": (patched(PLAIN, pixdim1=0, sform_code=0, qform_code=1), "bad_geometry"),
    "impossible quaternion": (patched(PLAIN, quatern_b=5, sform_code=0, qform_code=1), "bad_geometry"),
    "RGB": (nifti(np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])), "wrong_dtype"),
    "complex": (nifti(np.zeros((4, 4, 4), np.complex64)), "wrong_dtype"),
    "unknown type code": (patched(PLAIN, datatype=3), "wrong_dtype"),
    "no voxels": (patched(PLAIN, dim1=0), "empty"),
    "negative edges": (patched(PLAIN, dim1=-6, dim2=-7), "empty"),
    "zero axes": (patched(PLAIN, dim0=0), "not_nifti"),
    "voxels inside the header": (patched(PLAIN, vox_offset=0), "not_nifti"),
    "NaN voxel offset": (patched(PLAIN, vox_offset=np.nan), "not_nifti"),
    "infinite voxel offset": (patched(PLAIN, vox_offset=np.inf), "not_nifti"),
    "voxels behind the end": (patched(PLAIN, vox_offset=1e6), "truncated"),
    "voxels behind gigabytes of header": (patched(PLAIN, vox_offset=2e9), "not_nifti"),
    "ten thousand empty members": (gz(PLAIN) + gzip.compress(b"") * 10_001, "truncated"),
    "a member for each byte": (
        b"".join(gzip.compress(PLAIN[at : at + 1]) for at in range(len(PLAIN))) * 12,
        "truncated",
    ),
    "huge header": (patched(PLAIN, dim1=30000, dim2=30000, dim3=30000), "too_large"),
    "huge gzipped header": (gz(patched(PLAIN, dim1=30000, dim2=30000, dim3=30000)), "too_large"),
    "cut NIfTI-2 header": (nifti(VOXELS, version=2)[:500], "truncated"),
}


@pytest.mark.parametrize(("data", "code"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_one_finding(data: bytes, code: str) -> None:
    assert refusal(data) == code


def _peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("members", [1, 2])
def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(members: int) -> None:
    zeros = gzip.compress(b"\0" * 2**27)  # 128 MiB in 130 kB
    bomb = gz(PLAIN + b"\0" * 2**27) if members == 1 else gz(PLAIN) + zeros
    assert _peak_bytes(lambda: refusal(bomb)) < 2**24
    assert refusal(bomb) == "too_large"


@pytest.mark.parametrize("dtype", ["int32", "float64"])
def test_voxels_that_change_their_type_are_never_all_in_memory_as_they_were(dtype: str) -> None:
    voxels = np.zeros((256, 256, 64), dtype)
    voxels[::3] = 7
    plain = nifti(voxels)
    third = len(plain) // 3 + 1  # no multiple of a voxel
    members = b"".join(gzip.compress(plain[at : at + third], 1) for at in range(0, len(plain), third))
    for data in (plain, gz(plain), members):
        images: list[Image] = []
        peak = _peak_bytes(lambda data=data, images=images: images.append(read_nifti(data, name="x")))
        assert peak < 4 * voxels.size + 2**24
        np.testing.assert_array_equal(images[0].voxels_XYZ, voxels)


def test_a_header_that_promises_more_voxels_than_allowed_takes_no_memory() -> None:
    promise = gz(patched(PLAIN, dim1=30000, dim2=30000, dim3=30000) + b"\0" * 2**24)
    assert _peak_bytes(lambda: refusal(promise)) < 2**20
    assert refusal(gz(PLAIN), max_voxels=6 * 7 * 8 - 1) == "too_large"
    assert read_nifti(gz(PLAIN), name="x", max_voxels=6 * 7 * 8).voxels_XYZ.shape == (6, 7, 8)


def test_a_slope_below_0_is_applied_and_said() -> None:
    image = read_nifti(patched(PLAIN, scl_slope=-2.0, scl_inter=5.0), name="x")
    np.testing.assert_array_equal(image.voxels_XYZ, VOXELS * -2.0 + 5.0)
    assert [(finding.code, finding.leaves_out) for finding in image.findings] == [("slope_negative", False)]
    assert read_nifti(patched(PLAIN, scl_slope=2.0), name="x").findings == ()


def test_values_beyond_float32_become_infinite_without_a_warning() -> None:
    image = read_nifti(nifti(np.full((4, 4, 4), 1e300)), name="x")
    assert np.isinf(image.voxels_XYZ).all()


def _reads_or_refuses(data: bytes) -> None:
    try:
        image = read_nifti(data, name="x", max_voxels=2**20)
    except ScanError:
        return
    assert isinstance(image, Image)
    assert np.isfinite(image.affine).all()
    assert image.voxels_XYZ.dtype.name in {"float32", "uint8", "int8", "uint16", "int16"}


_FLIPS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=8)


@given(cut=st.integers(0, 10**6) | st.none(), flips=_FLIPS, behind=st.binary(max_size=20))
@settings(max_examples=300, deadline=None)
def test_any_corruption_of_a_gzipped_scan_is_an_image_or_a_finding(
    cut: int | None, flips: list[tuple[int, int]], behind: bytes
) -> None:
    _reads_or_refuses(_corrupt(gz(PLAIN), cut, flips, behind))


@given(flips=_FLIPS, version=st.sampled_from([1, 2]), is_gzip=st.booleans())
@settings(max_examples=500, deadline=None)
def test_any_corruption_of_the_header_is_an_image_or_a_finding(
    flips: list[tuple[int, int]], version: int, is_gzip: bool
) -> None:
    plain = nifti(VOXELS, version=version)
    size = 352 if version == 1 else 544
    data = _corrupt(plain[:size], None, flips, plain[size:])
    _reads_or_refuses(gz(data) if is_gzip else data)


def _corrupt(data: bytes, cut: int | None, flips: list[tuple[int, int]], behind: bytes) -> bytes:
    broken = bytearray(data if cut is None else data[: cut % len(data)])
    for position, mask in flips:
        if broken:
            broken[position % len(broken)] ^= mask
    return bytes(broken) + behind


def test_extensions_are_never_looked_at() -> None:
    image = nib.Nifti1Image(VOXELS, np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("afni", b"<AFNI user='anna' host='ward3'/>"))
    data = image.to_bytes()
    np.testing.assert_array_equal(read_nifti(data, name="x").voxels_XYZ, VOXELS)
    # An extension whose own length is nonsense spoils nothing.
    position = 352
    spoilt = data[:position] + struct.pack("<i", -7) + data[position + 4 :]
    np.testing.assert_array_equal(read_nifti(spoilt, name="x").voxels_XYZ, VOXELS)


@pytest.mark.real_data
def test_real_scans_read_as_nibabel_reads_them(real_data: Path) -> None:
    names = sorted([*real_data.glob("mri_age/*.nii.gz"), *real_data.glob("mni/*.nii.gz")])
    assert len(names) == 7
    for path in names:
        image = read_nifti(path.read_bytes(), name=path.name)
        truth = nib.load(path)
        np.testing.assert_allclose(image.voxels_XYZ, np.asarray(truth.dataobj, dtype=np.float32), rtol=1e-6)
        np.testing.assert_allclose(image.affine, truth.affine)


@pytest.mark.real_data
def test_the_file_slope_of_real_uint8_scans_is_applied(real_data: Path) -> None:
    for path in real_data.glob("mri_age/*.nii.gz"):
        image = read_nifti(path.read_bytes(), name=path.name)
        assert image.dtype == "uint8"
        assert 3000 < image.voxels_XYZ.max() < 6000  # 255 without the slope of about 14
