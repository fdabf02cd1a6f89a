"""Every exported program answers as the model does, and one that does not is never written."""

import io
import warnings
from typing import Any

import pytest
import torch

from app.registry import load_program
from preprocess.errors import ArtefactError
from preprocess.manifest import COMPARE_PROGRAM_NAME, EMBED_PROGRAM_NAME, PROGRAM_NAME, SEVERITY_PROGRAM_NAME
from trainer.encoders import ProgressionHead, build_encoder
from trainer.export import programs
from trainer.export.programs import TOLERANCE, Programs, export_programs
from trainer.export.severity import SeverityModel
from trainer.fit.trained import PairModel

SHAPE = (1, 16, 16, 16)


@pytest.fixture(scope="module")
def model() -> PairModel:
    torch.manual_seed(0)
    head = ProgressionHead(8)
    for one in head.parameters():
        torch.nn.init.normal_(one)
    encoder = build_encoder("fast", in_channels=1, embedding_width=8)
    encoder(torch.rand(8, *SHAPE))
    return PairModel(encoder, head, temperature=1.3).eval()


@pytest.fixture(scope="module")
def exported(model: PairModel) -> Programs:
    return export_programs(model, SHAPE)


@pytest.fixture(scope="module")
def script(exported: Programs) -> Any:
    return load_program(exported.files[PROGRAM_NAME])


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [1, 2, 3, 8, 11])
def test_all_three_programs_answer_as_the_model_at_any_batch_size(
    model: PairModel, exported: Programs, script: Any, batch_size: int
) -> None:
    embed = torch.export.load(io.BytesIO(exported.files[EMBED_PROGRAM_NAME])).module()
    compare = torch.export.load(io.BytesIO(exported.files[COMPARE_PROGRAM_NAME])).module()
    earlier, later = torch.rand(2, batch_size, *SHAPE)
    for program in (script.embed, embed):
        torch.testing.assert_close(program(earlier), model.embed(earlier), atol=TOLERANCE, rtol=0)
    for program in (script.compare, compare):
        torch.testing.assert_close(program(earlier, later), model.compare(earlier, later), atol=TOLERANCE, rtol=0)
    assert exported.largest_difference <= TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_script_exchanges_improved_and_declined_bit_for_bit(script: Any, batch_size: int) -> None:
    for seed in range(20):
        draws = torch.Generator().manual_seed(seed)
        earlier, later = (torch.rand(batch_size, *SHAPE, generator=draws) for _ in range(2))
        forward, backward = script.compare(earlier, later), script.compare(later, earlier)
        assert torch.equal(forward, backward.flip(1))
        assert not torch.equal(forward[:, 0], forward[:, 2])


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_script_judges_from_embeddings_what_it_compares_from_scans(script: Any, batch_size: int) -> None:
    earlier, later = torch.rand(2, batch_size, *SHAPE)
    differences = script.embed(later) - script.embed(earlier)
    torch.testing.assert_close(script.judge(differences), script.compare(earlier, later), atol=TOLERANCE, rtol=0)
    assert torch.equal(script.judge(differences), script.judge(-differences).flip(1))


@torch.no_grad()
def test_the_script_treats_each_volume_of_a_batch_alone(script: Any) -> None:
    volumes = torch.rand(5, *SHAPE)
    singly = torch.cat([script.embed(volume[None]) for volume in volumes])
    torch.testing.assert_close(script.embed(volumes), singly, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", [PROGRAM_NAME, EMBED_PROGRAM_NAME, COMPARE_PROGRAM_NAME])
def test_a_program_that_differs_from_the_model_is_refused_by_name(
    model: PairModel, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    torch.manual_seed(1)
    other = PairModel(build_encoder("fast", in_channels=1, embedding_width=8), model.head, temperature=1.3).eval()
    if name == PROGRAM_NAME:
        original_script = programs._torchscript
        monkeypatch.setattr(programs, "_torchscript", lambda _, inputs: original_script(other, inputs))
    else:
        wrapped = programs._Embed if name == EMBED_PROGRAM_NAME else programs._Compare
        original = programs._exported

        def perturbed(module: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> bytes:
            return original(wrapped(other).eval() if isinstance(module, wrapped) else module, example)

        monkeypatch.setattr(programs, "_exported", perturbed)
    with pytest.raises(ArtefactError, match=rf"^{name}.* differs from the model by .* at batch 1, above 1e-05"):
        export_programs(model, SHAPE)


@torch.no_grad()
@pytest.mark.parametrize(
    ("encoder", "shape"),
    [
        ("resnet18", (3, 32, 32)),
        ("resnet50", (1, 32, 32)),
        ("fast", SHAPE),
        ("tsm-resnet18", (9, 1, 32, 32)),
        ("slice-tsm-resnet18", SHAPE),
    ],
)
def test_severity_of_images_clips_and_volumes_is_exported_alike(encoder: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    channels = shape[1] if encoder == "tsm-resnet18" else shape[0]
    network = build_encoder(encoder, in_channels=channels, embedding_width=8)
    network(torch.rand(8, *shape))
    severe = SeverityModel(network, torch.randn(8)).eval()
    exported = export_programs(severe, shape)
    assert exported.files.keys() == {PROGRAM_NAME, EMBED_PROGRAM_NAME, SEVERITY_PROGRAM_NAME}
    scans = torch.rand(5, *shape)
    loaded: Any = load_program(exported.files[PROGRAM_NAME])
    program = torch.export.load(io.BytesIO(exported.files[SEVERITY_PROGRAM_NAME])).module()
    # By hand, in float64.
    embeddings_BE = severe.embed(scans).double()
    cosine_B = embeddings_BE @ severe.anchor_E.double() / embeddings_BE.norm(dim=1) / severe.anchor_E.double().norm()
    for found in (severe.severity(scans), loaded.severity(scans), program(scans)):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), 1 - cosine_B, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", [PROGRAM_NAME, SEVERITY_PROGRAM_NAME])
def test_a_severity_that_differs_is_refused_by_name(
    model: PairModel, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    severe, other = (SeverityModel(model.encoder, sign * torch.ones(8)).eval() for sign in (1, -1))
    if name == PROGRAM_NAME:
        script = programs._torchscript
        monkeypatch.setattr(programs, "_torchscript", lambda _, inputs: script(other, inputs))
    else:
        original = programs._exported

        def perturbed(module: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> bytes:
            return original(programs._Severity(other) if isinstance(module, programs._Severity) else module, example)

        monkeypatch.setattr(programs, "_exported", perturbed)
    with pytest.raises(ArtefactError, match=rf"^{name}.* differs from the model by .* at batch 1, above 1e-05"):
        export_programs(severe, SHAPE)


def test_a_model_whose_answers_are_no_numbers_is_refused(model: PairModel) -> None:
    broken = PairModel(model.encoder, model.head, temperature=float("nan")).eval()
    with pytest.raises(ArtefactError, match="differs from the model by nan"):
        export_programs(broken, SHAPE)


def test_only_the_deprecation_of_torchscript_is_filtered(model: PairModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: object) -> None:
        warnings.warn("something else is deprecated", DeprecationWarning, stacklevel=2)

    monkeypatch.setattr(torch.jit, "trace_module", warn)
    with pytest.raises(DeprecationWarning, match="something else"):
        export_programs(model, SHAPE)


def test_no_voxels_are_saved_beside_the_weights(model: PairModel, exported: Programs) -> None:
    num_bytes = 4 * sum(one.numel() for one in model.state_dict().values())
    for data in exported.files.values():
        assert len(data) < num_bytes + 150_000
