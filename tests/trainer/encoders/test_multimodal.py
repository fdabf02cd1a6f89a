"""The encoders of each modality against torch's and MONAI's own, and what absent modalities may not do."""

from itertools import permutations

import pytest
import torch
from monai.networks.nets import EfficientNetBN
from torch import nn

from trainer.encoders.base import NormName
from trainer.encoders.multimodal import (
    MatrixEncoder,
    ModalitySpec,
    MultimodalEncoder,
    VectorEncoder,
    VolumeEncoder,
)

SPECS = {
    "sc": ModalitySpec("matrix", (6, 6)),
    "radiomics": ModalitySpec("matrix", (6, 5)),
    "t2": ModalitySpec("volume", (1, 32, 32, 32)),
    "clinical": ModalitySpec("vector", (7,)),
}
SMALL = {name: spec for name, spec in SPECS.items() if name != "t2"}
Batch = tuple[dict[str, torch.Tensor], torch.Tensor]


def batch(num_subjects: int, specs: dict[str, ModalitySpec] = SPECS, seed: int = 0) -> Batch:
    """Values of every modality, and who has which: of each modality at least two do where there are four subjects."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {name: torch.rand(num_subjects, *spec.shape, generator=generator) for name, spec in specs.items()}
    subjects, modalities = torch.arange(num_subjects)[:, None], torch.arange(len(specs))
    return inputs, (subjects + modalities) % 4 != 3


def with_slots_of_absent(
    inputs: dict[str, torch.Tensor], present: torch.Tensor, value: float
) -> dict[str, torch.Tensor]:
    filled = {name: values.clone() for name, values in inputs.items()}
    for column, name in enumerate(inputs):
        filled[name][~present[:, column]] = value
    return filled


def encoder_of(specs: dict[str, ModalitySpec] = SPECS, norm: NormName = "batch") -> MultimodalEncoder:
    torch.manual_seed(0)
    return MultimodalEncoder(specs, norm=norm)


def trained_a_little(specs: dict[str, ModalitySpec] = SPECS, norm: NormName = "batch") -> MultimodalEncoder:
    """In eval mode, with BatchNorm statistics that have left their starting values."""
    encoder = encoder_of(specs, norm)
    for seed in range(3):
        encoder(*batch(4, specs, seed))
    return encoder.eval()


# Each kind


@pytest.mark.parametrize("residual", [False, True])
def test_attention_is_that_of_torch_with_one_head_and_no_output_map(residual):
    torch.manual_seed(0)
    encoder = MatrixEncoder(6, 5, 8, residual=residual)
    oracle = nn.MultiheadAttention(5, num_heads=1, batch_first=True)
    with torch.no_grad():
        oracle.in_proj_weight.copy_(encoder.query_key_value.weight)
        oracle.in_proj_bias.copy_(encoder.query_key_value.bias)
        oracle.out_proj.weight.copy_(torch.eye(5))
        oracle.out_proj.bias.zero_()
    matrices = torch.randn(3, 6, 5) * 3
    attended, _ = oracle(matrices, matrices, matrices)
    attended = attended + matrices if residual else attended
    expected = encoder.linear(torch.stack([encoder.token(rows) for rows in attended]).reshape(3, -1))
    torch.testing.assert_close(encoder(matrices, torch.ones(3, dtype=torch.bool)), expected)


def test_a_residual_adds_no_parameter_and_reaches_every_matrix_encoder():
    plain, residual = MultimodalEncoder(SPECS), MultimodalEncoder(SPECS, residual=True)
    assert plain.state_dict().keys() == residual.state_dict().keys()
    assert [encoder.residual for encoder in residual.modules() if isinstance(encoder, MatrixEncoder)] == [True, True]


def test_volume_encoder_is_the_efficientnet_of_monai():
    torch.manual_seed(0)
    encoder = VolumeEncoder(2, 8).eval()
    oracle = EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=3, in_channels=2, num_classes=8).eval()
    oracle.load_state_dict(encoder.net.state_dict())
    volumes = torch.rand(2, 2, 32, 40, 33)
    with torch.no_grad():
        answer = encoder(volumes, torch.ones(2, dtype=torch.bool))
        torch.testing.assert_close(answer, oracle(volumes), rtol=1e-5, atol=1e-6)


def test_vector_encoder_is_two_linear_layers_with_relu_between():
    encoder = VectorEncoder(7, 8)
    first, _, last = encoder.layers
    vectors = torch.randn(3, 7)
    hidden = (vectors @ first.weight.T + first.bias).clamp(min=0)
    assert hidden.shape == (3, 64)
    torch.testing.assert_close(encoder(vectors, torch.ones(3, dtype=torch.bool)), hidden @ last.weight.T + last.bias)


def test_every_modality_gets_eight_numbers_from_its_own_encoder_in_the_order_of_the_description():
    encoder = trained_a_little()
    inputs, present = batch(4)
    embeddings = encoder(inputs, present)
    assert embeddings.shape == (4, 4, 8)
    for index, name in enumerate(SPECS):
        alone = encoder.encoders[name](inputs[name], present[:, index])
        assert torch.equal(embeddings[present[:, index], index], alone[present[:, index]])
    shuffled = dict(reversed(inputs.items()))
    assert torch.equal(encoder(shuffled, present), embeddings)


def test_with_group_norm_no_layer_of_the_volume_encoder_looks_at_the_batch():
    kinds = {norm: [type(layer).__name__ for layer in encoder_of(norm=norm).modules()] for norm in ("batch", "group")}
    assert "BatchNorm3d" not in kinds["group"]
    assert kinds["group"].count("GroupNorm") == kinds["batch"].count("BatchNorm3d") > 0


# Absent modalities


@pytest.mark.parametrize("training", [True, False])
def test_rows_of_absent_modalities_are_zero_and_all_others_are_not(training):
    encoder = trained_a_little().train(training)
    inputs, present = batch(4)
    embeddings = encoder(inputs, present)
    assert torch.equal(embeddings.abs().amax(-1) > 0, present)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_what_the_slot_of_an_absent_modality_holds_changes_nothing(training, norm, value):
    """Neither answers, nor gradients of weights and inputs, nor running statistics."""
    inputs, present = batch(4)
    outcomes = []
    for filling in (0.0, value):
        encoder = trained_a_little(norm=norm).train(training)
        filled = {name: one.requires_grad_() for name, one in with_slots_of_absent(inputs, present, filling).items()}
        torch.manual_seed(1)
        embeddings = encoder(filled, present)
        logits = encoder.fuse(embeddings, present)
        (logits.square().sum() + embeddings.square().sum()).backward()
        gradients = {name: parameter.grad for name, parameter in encoder.named_parameters()}
        gradients |= {name: one.grad for name, one in filled.items()}
        outcomes.append((embeddings, logits, gradients, dict(encoder.named_buffers())))
    for first, second in zip(outcomes[0], outcomes[1], strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)
    for gradient in outcomes[1][2].values():
        assert gradient.isfinite().all()


def test_statistics_in_training_are_those_of_present_volumes_only():
    inputs, present = batch(4)
    first, second = encoder_of(), encoder_of()
    first(inputs, present)
    who = present[:, 2]
    assert 1 < who.sum() < 4
    second.encoders["t2"].net(inputs["t2"][who])
    statistics = [
        {name: one for name, one in encoder.named_buffers() if "_fc" not in name} for encoder in (first, second)
    ]
    assert statistics[0].keys() == statistics[1].keys()
    first_layer = next(name for name in statistics[0] if name.endswith("running_mean"))
    torch.testing.assert_close(statistics[0][first_layer], statistics[1][first_layer])
    assert statistics[0][first_layer].abs().max() > 0


@pytest.mark.parametrize("num_present", [0, 1])
def test_a_batch_with_one_volume_or_none_is_embedded_in_training_and_leaves_the_statistics(num_present):
    encoder = encoder_of()
    inputs, present = batch(4)
    present[:, 2] = torch.arange(4) < num_present
    before = {name: one.clone() for name, one in encoder.named_buffers()}
    embeddings = encoder(inputs, present)
    embeddings.square().sum().backward()
    assert embeddings.isfinite().all()
    assert torch.equal(embeddings.abs().amax(-1) > 0, present)
    assert all(torch.equal(one, before[name]) for name, one in encoder.named_buffers())
    assert all(layer.training for layer in encoder.modules())
    assert (encoder.encoders["t2"].net._conv_stem.weight.grad is not None) is (num_present == 1)


def test_a_subject_without_anything_gets_the_bias_alone():
    encoder = trained_a_little(SMALL)
    inputs, present = batch(2, SMALL)
    present[1] = False
    logits = encoder.fuse(encoder(inputs, present), present)
    assert logits[1] == encoder.fusion.bias[0]


# Fusion


def test_fusion_is_linear_in_the_normalised_concatenation():
    encoder = encoder_of(SMALL)
    generator = torch.Generator().manual_seed(0)
    modalities = torch.randn(5, 3, 8, generator=generator) * 10
    present = torch.rand(5, 3, generator=generator) > 0.4
    modalities[~present] = float("nan")
    expected = []
    for subject in range(5):
        parts = [
            modalities[subject, m] / modalities[subject, m].norm() if present[subject, m] else torch.zeros(8)
            for m in range(3)
        ]
        expected.append(torch.cat(parts) @ encoder.fusion.weight[0] + encoder.fusion.bias[0])
    torch.testing.assert_close(encoder.fuse(modalities, present), torch.stack(expected))


def test_length_of_an_embedding_does_not_count_in_the_fusion():
    encoder = encoder_of(SMALL)
    modalities, present = torch.randn(4, 3, 8), torch.ones(4, 3, dtype=torch.bool)
    torch.testing.assert_close(encoder.fuse(modalities * 50, present), encoder.fuse(modalities, present))


# Exported graphs and precision


class Positional(nn.Module):
    """The encoder with one tensor for each modality and then present_BM, as recorded programs take them."""

    def __init__(self, encoder: MultimodalEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def embed(self, *tensors: torch.Tensor) -> torch.Tensor:
        return self.encoder(dict(zip(self.encoder.modalities, tensors, strict=False)), tensors[-1])

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return self.encoder.fuse(self.embed(*tensors), tensors[-1])


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_traced_and_exported_programs_answer_like_the_encoder_whoever_is_absent(norm):
    model = Positional(trained_a_little(norm=norm)).eval()

    def positional(num_subjects: int) -> tuple[torch.Tensor, ...]:
        inputs, present = batch(num_subjects, seed=num_subjects)
        return *with_slots_of_absent(inputs, present, float("nan")).values(), present

    example = positional(2)
    sizes = (tuple({0: torch.export.Dim("batch", min=1)} for _ in example),)
    with torch.no_grad():
        with pytest.warns(DeprecationWarning, match=r"torch\.jit\.trace"):
            traced = torch.jit.trace_module(model, {"embed": example, "forward": example})
        exported = torch.export.export(model, example, dynamic_shapes=sizes).module()
        for num_subjects in (1, 3, 8):
            tensors = positional(num_subjects)
            embeddings, logits = model.embed(*tensors), model(*tensors)
            assert logits.shape == (num_subjects,)
            torch.testing.assert_close(traced.embed(*tensors), embeddings, rtol=0, atol=1e-5)
            torch.testing.assert_close(traced(*tensors), logits, rtol=0, atol=1e-5)
            torch.testing.assert_close(exported(*tensors), logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_embeddings_are_float32_under_bf16_autocast(training):
    encoder = trained_a_little().train(training)
    inputs, present = batch(4)
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = encoder(inputs, present)
        logits = encoder.fuse(embeddings, present)
    assert embeddings.dtype == logits.dtype == torch.float32
    for index in range(4):
        rows = embeddings[present[:, index], index]
        assert not torch.equal(rows, rows.bfloat16().float())
    with torch.no_grad():
        small = [0, 1, 3]
        torch.testing.assert_close(embeddings[:, small], encoder(inputs, present)[:, small])


# Refusals


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        ("graph", (3, 3), "no kind of modality is called 'graph'; choose matrix, volume, vector"),
        ("matrix", (3,), r"matrix has shape \(3,\); it must be \(R, F\)"),
        ("vector", (0,), r"vector has shape \(0,\); it must be \(F\), each at least 1"),
        ("volume", (32, 32, 32), r"volume has shape \(32, 32, 32\); it must be \(C, D, H, W\)"),
        ("volume", (1, 32, 31, 32), r"\(1, 32, 31, 32\); every edge must be at least 32 voxels"),
    ],
)
def test_wrong_descriptions_are_refused(kind, shape, message):
    with pytest.raises(ValueError, match=message):
        ModalitySpec(kind, shape)


@pytest.mark.parametrize("edges", set(permutations((32, 33, 47))))
def test_any_volume_from_32_voxels_an_edge_is_embedded(edges):
    encoder = VolumeEncoder(1, 8).eval()
    assert encoder(torch.rand(1, 1, *edges), torch.ones(1, dtype=torch.bool)).isfinite().all()


@pytest.mark.parametrize("name", ["", "a.b", "keys", "training"])
def test_names_that_cannot_be_those_of_parameters_are_refused(name):
    with pytest.raises(ValueError, match=f"{name!r} cannot be the name of a modality"):
        MultimodalEncoder({name: ModalitySpec("vector", (3,))})


def test_wrong_inputs_are_refused_with_what_was_found():
    encoder = encoder_of(SMALL)
    inputs, present = batch(4, SMALL)
    with pytest.raises(
        ValueError, match="inputs hold sc, radiomics; the encoder needs exactly sc, radiomics, clinical"
    ):
        encoder({name: inputs[name] for name in ("sc", "radiomics")}, present)
    with pytest.raises(ValueError, match=r"clinical has shape \(4, 6\); the encoder was built for \(B, 7\)"):
        encoder({**inputs, "clinical": inputs["clinical"][:, :6]}, present)
    with pytest.raises(ValueError, match=r"sc has dtype torch\.int64; the encoder needs floats"):
        encoder({**inputs, "sc": inputs["sc"].long()}, present)
    with pytest.raises(ValueError, match=r"present has shape \(4, 3\) and dtype torch\.float32; it must be a boolean"):
        encoder(inputs, present.float())
    with pytest.raises(ValueError, match="present has 2 columns; it needs one for each of sc, radiomics, clinical"):
        encoder(inputs, present[:, :2])
    with pytest.raises(ValueError, match=r"numbers of subjects differ: .*'present': 3"):
        encoder(inputs, present[:3])
    with pytest.raises(ValueError, match="modalities is empty"):
        MultimodalEncoder({})
    with pytest.raises(ValueError, match="embedding_width is 0"):
        MultimodalEncoder(SMALL, embedding_width=0)
