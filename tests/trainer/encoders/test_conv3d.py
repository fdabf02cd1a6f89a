"""Shapes, parameter counts, refusals, precision and exported graphs of the 3D encoders."""

import pytest
import torch

from trainer.encoders import Encoder, EncoderName, FastEncoder, Projector, ReferenceEncoder, build_encoder
from trainer.encoders.conv3d import BlockStem

NAMES = ["reference", "fast"]


def volumes(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def trained_a_little(name: str, *, in_channels: int = 1, embedding_width: int = 24) -> Encoder:
    """An encoder in eval mode whose BatchNorm statistics have left their starting values."""
    torch.manual_seed(0)
    encoder = build_encoder(name, in_channels=in_channels, embedding_width=embedding_width)
    for seed in range(3):
        encoder(volumes(4, in_channels, 32, 32, 32, seed=seed))
    return encoder.eval()


def num_parameters(*modules: torch.nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_reference_encoder_with_projector_has_the_parameters_of_the_paper():
    assert num_parameters(ReferenceEncoder(), Projector()) == 423_168


def test_fast_encoder_has_the_parameters_its_page_states():
    assert num_parameters(FastEncoder()) == 1_230_016


def test_reference_encoder_is_four_times_pool_convolution_norm_and_relu():
    kinds = [type(layer).__name__ for layer in ReferenceEncoder().features]
    assert kinds == ["MaxPool3d", "Conv3d", "BatchNorm3d", "ReLU"] * 4
    widths = [layer.out_channels for layer in ReferenceEncoder().features if isinstance(layer, torch.nn.Conv3d)]
    assert widths == [16, 32, 64, 128]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 31, 40), (33, 16, 19)])
@pytest.mark.parametrize("in_channels", [1, 2])
def test_any_edge_from_16_voxels_gives_one_embedding_a_volume(name, shape, in_channels):
    encoder = build_encoder(name, in_channels=in_channels, embedding_width=24)
    embeddings = encoder(volumes(3, in_channels, *shape))
    assert embeddings.shape == (3, encoder.embedding_width)
    assert embeddings.dtype == torch.float32
    assert embeddings.isfinite().all()


@pytest.mark.parametrize(("name", "seen"), [("reference", 46), ("fast", 44)])
@pytest.mark.parametrize("axis", [2, 3, 4])
def test_far_side_of_an_odd_edge_is_left_out_as_documented(name, seen, axis):
    encoder = trained_a_little(name)
    brain = volumes(1, 1, 47, 47, 47)
    beyond, within = brain.clone(), brain.clone()
    beyond.narrow(axis, seen, 47 - seen).zero_()
    within.narrow(axis, seen - 1, 1).zero_()
    assert torch.equal(encoder(beyond), encoder(brain))
    assert not torch.equal(encoder(within), encoder(brain))


def test_block_stem_is_the_plain_convolution_of_kernel_and_stride_four():
    torch.manual_seed(0)
    stem = BlockStem(2, 8)
    brain = volumes(2, 2, 18, 23, 21)
    # Folded channels run over (offset along W, channel): back to (width, C, 4, 4, 4).
    weight = stem.conv.weight.unflatten(1, (4, 2)).squeeze(-1).permute(0, 2, 3, 4, 1)
    expected = torch.nn.functional.conv3d(brain, weight, stride=4)
    torch.testing.assert_close(stem(brain), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(2, 16, 16, 16), r"shape \(2, 16, 16, 16\); the encoder needs 5 axes"),
        (torch.zeros(2, 3, 16, 16, 16), r"shape \(2, 3, 16, 16, 16\); the encoder was built for C = 1"),
        (torch.zeros(2, 1, 16, 15, 16), r"shape \(2, 1, 16, 15, 16\); every edge must be at least 16"),
        (torch.zeros(2, 1, 16, 16, 16, dtype=torch.uint8), "dtype torch.uint8; the encoder needs floats"),
    ],
    ids=["rank", "channels", "edge", "dtype"],
)
def test_wrong_input_is_refused_with_what_was_found(name, wrong, message):
    with pytest.raises(ValueError, match=message):
        build_encoder(name, in_channels=1, embedding_width=8)(wrong)


def test_unknown_name_and_empty_widths_are_refused():
    with pytest.raises(ValueError, match="no encoder is called 'resnet'; choose reference or fast"):
        build_encoder("resnet", in_channels=1, embedding_width=8)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="widths is empty"):
        FastEncoder(widths=())
    with pytest.raises(ValueError, match="embedding_width is 0"):
        FastEncoder(embedding_width=0)


@pytest.mark.parametrize("name", NAMES)
def test_embedding_in_eval_mode_does_not_depend_on_batch_mates(name):
    encoder = trained_a_little(name)
    brain = volumes(1, 1, 32, 32, 32, seed=9)
    alone = encoder(brain)
    for mates in (
        volumes(2, 1, 32, 32, 32, seed=1),
        torch.zeros(2, 1, 32, 32, 32),
        torch.full((2, 1, 32, 32, 32), 9.0),
    ):
        torch.testing.assert_close(encoder(torch.cat((mates, brain)))[2:], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("in_channels", [1, 2])
def test_traced_graph_answers_like_the_encoder_at_any_batch_size(name, batch_size, in_channels):
    encoder = trained_a_little(name, in_channels=in_channels)
    with pytest.warns(DeprecationWarning, match=r"torch\.jit\.trace"):
        traced = torch.jit.trace(encoder, volumes(2, in_channels, 32, 18, 35))
    brain = volumes(batch_size, in_channels, 32, 18, 35, seed=batch_size)
    torch.testing.assert_close(traced(brain), encoder(brain), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("in_channels", [1, 2])
def test_exported_program_answers_like_the_encoder_at_any_batch_size(name, in_channels):
    encoder = trained_a_little(name, in_channels=in_channels)
    free_batch = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(encoder, (volumes(2, in_channels, 32, 18, 35),), dynamic_shapes=free_batch)
    for batch_size in (1, 3, 8):
        brain = volumes(batch_size, in_channels, 32, 18, 35, seed=batch_size)
        torch.testing.assert_close(program.module()(brain), encoder(brain), rtol=1e-5, atol=1e-6)


@pytest.mark.numeric
@pytest.mark.parametrize("name", NAMES)
def test_embedding_is_finite_and_float32_under_bf16_autocast_and_so_are_gradients(name):
    torch.manual_seed(0)
    encoder = build_encoder(name, in_channels=1, embedding_width=24).to(memory_format=torch.channels_last_3d)
    brain = volumes(4, 1, 32, 32, 32).contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = encoder(brain)
    assert embeddings.dtype == torch.float32
    # More distinct values than bfloat16 has: the last layer was not rounded to it.
    assert not torch.equal(embeddings, embeddings.bfloat16().float())
    embeddings.square().mean().backward()
    for parameter in encoder.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_channels_last_memory_changes_nothing_but_rounding(name):
    encoder = trained_a_little(name, in_channels=2)
    brain = volumes(3, 2, 32, 32, 32)
    expected = encoder(brain)
    encoder.to(memory_format=torch.channels_last_3d)
    answer = encoder(brain.contiguous(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_carries_everything_that_decides_the_embedding(name):
    encoder = trained_a_little(name)
    copy = build_encoder(name, in_channels=1, embedding_width=24).eval()
    brain = volumes(2, 1, 32, 32, 32)
    assert not torch.equal(copy(brain), encoder(brain))
    copy.load_state_dict(encoder.state_dict())
    assert torch.equal(copy(brain), encoder(brain))


@pytest.mark.parametrize("name", ["reference", "fast"])
def test_with_group_norm_no_scan_depends_on_another_in_training(name: EncoderName) -> None:
    torch.manual_seed(0)
    volumes = torch.rand(4, 1, 32, 32, 32)
    for norm, alike in (("group", True), ("batch", False)):
        encoder = build_encoder(name, in_channels=1, embedding_width=24, norm=norm).train()
        apart = torch.cat([encoder(part) for part in volumes.split(2)])
        assert torch.allclose(encoder(volumes), apart, atol=1e-5) is alike
        layers = [layer for layer in encoder.modules() if isinstance(layer, torch.nn.GroupNorm)]
        assert [layer.num_groups for layer in layers] == ([8] * 4 if alike else [])
