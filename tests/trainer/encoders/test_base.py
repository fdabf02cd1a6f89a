"""What holds for every encoder of images, clips and slices: shapes, refusals, precision, exported graphs."""

import pytest
import torch

from trainer.encoders import Encoder, EncoderName, NormName, build_encoder
from trainer.encoders.base import SMALLEST_EDGE, GroupNorm, put_group_norm

SHAPES: dict[EncoderName, tuple[int, ...]] = {
    "resnet18": (1, 32, 24),
    "resnet50": (1, 32, 24),
    "tsm-resnet18": (11, 1, 32, 24),
    "slice-tsm-resnet18": (1, 32, 24, 19),
}
NAMES = list(SHAPES)


def scans(name: EncoderName, batch_size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch_size, *SHAPES[name], generator=torch.Generator().manual_seed(seed))


def trained_a_little(name: EncoderName, norm: NormName = "batch") -> Encoder:
    """An encoder in eval mode whose BatchNorm statistics have left their starting values."""
    torch.manual_seed(0)
    encoder = build_encoder(name, in_channels=1, embedding_width=24, norm=norm)
    for seed in range(3):
        encoder(scans(name, 4, seed))
    return encoder.eval()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("in_channels", [1, 3])
def test_one_embedding_a_scan_whatever_the_channels(name: EncoderName, in_channels: int) -> None:
    encoder = build_encoder(name, in_channels=in_channels, embedding_width=24).eval()
    channel_axis = encoder.input_axes.index("C")
    embeddings = encoder(scans(name, 2).repeat_interleave(in_channels, dim=channel_axis))
    assert embeddings.shape == (2, encoder.embedding_width)
    assert embeddings.dtype == torch.float32
    assert embeddings.isfinite().all()
    assert encoder.in_channels == in_channels


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("reference", "BCDHW"),
        ("fast", "BCDHW"),
        ("slice-tsm-resnet18", "BCDHW"),
        ("tsm-resnet18", "BTCHW"),
        ("resnet50", "BCHW"),
        ("resnet18", "BCHW"),
    ],
)
def test_axes_are_told_and_another_rank_is_refused(name: EncoderName, axes: str) -> None:
    encoder = build_encoder(name, in_channels=1, embedding_width=8)
    assert encoder.input_axes == axes
    with pytest.raises(ValueError, match=rf"needs {len(axes)} axes \({', '.join(axes)}\)"):
        encoder(torch.zeros((1,) * (len(axes) - 1)))


@pytest.mark.parametrize("name", NAMES)
def test_wrong_channels_edges_and_dtypes_are_refused_with_what_was_found(name: EncoderName) -> None:
    encoder = build_encoder(name, in_channels=2, embedding_width=8)
    with pytest.raises(ValueError, match=r"the encoder was built for C = 2"):
        encoder(scans(name, 2))
    encoder = build_encoder(name, in_channels=1, embedding_width=8)
    with pytest.raises(ValueError, match=rf"every edge must be at least {SMALLEST_EDGE}"):
        encoder(scans(name, 2)[..., :15])
    with pytest.raises(ValueError, match=r"dtype torch\.uint8; the encoder needs floats"):
        encoder(scans(name, 2).byte())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_traced_and_exported_graphs_answer_like_the_encoder_at_any_batch_size(
    name: EncoderName, norm: NormName
) -> None:
    encoder = trained_a_little(name, norm)
    free_batch = ({0: torch.export.Dim("batch", min=1)},)
    with torch.no_grad():
        with pytest.warns(DeprecationWarning, match=r"torch\.jit\.trace"):
            traced = torch.jit.trace(encoder, scans(name, 2))
        exported = torch.export.export(encoder, (scans(name, 2),), dynamic_shapes=free_batch).module()
        for batch_size in (1, 3, 8):
            batch = scans(name, batch_size, seed=batch_size)
            expected = encoder(batch)
            torch.testing.assert_close(traced(batch), expected, rtol=0, atol=1e-5)
            torch.testing.assert_close(exported(batch), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_embedding_in_eval_mode_does_not_depend_on_batch_mates(name: EncoderName) -> None:
    encoder = trained_a_little(name)
    scan = scans(name, 1, seed=9)
    alone = encoder(scan)
    for mates in (scans(name, 2, seed=1), torch.zeros_like(scans(name, 2)), torch.full_like(scans(name, 2), 9.0)):
        for batch, index in ((torch.cat((mates, scan)), 2), (torch.cat((scan, mates)), 0)):
            torch.testing.assert_close(encoder(batch)[[index]], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("norm", "alike"), [("group", True), ("batch", False)])
def test_in_training_no_scan_depends_on_another_with_group_norm_only(
    name: EncoderName, norm: NormName, alike: bool
) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, in_channels=1, embedding_width=24, norm=norm).train()
    batch = scans(name, 4)
    # Frames are drawn clip after clip, so that two halves draw what the whole does.
    torch.manual_seed(1)
    whole = encoder(batch)
    torch.manual_seed(1)
    apart = torch.cat([encoder(part) for part in batch.split(2)])
    assert torch.allclose(whole, apart, atol=1e-5) is alike


@pytest.mark.numeric
@pytest.mark.parametrize("name", NAMES)
def test_embedding_is_finite_and_float32_under_bf16_autocast_and_so_are_gradients(name: EncoderName) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, in_channels=1, embedding_width=24)
    encoder.to(memory_format=encoder.memory_format)
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = encoder(scans(name, 4))
    assert embeddings.dtype == torch.float32
    # More distinct values than bfloat16 has: the last layer was not rounded to it.
    assert not torch.equal(embeddings, embeddings.bfloat16().float())
    embeddings.square().mean().backward()
    for parameter in encoder.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@pytest.mark.numeric
def test_bf16_features_are_averaged_in_float32() -> None:
    torch.manual_seed(0)
    encoder = build_encoder("resnet18", in_channels=1, embedding_width=24).eval()
    images = torch.rand(2, 1, 224, 160)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features, embeddings = encoder.features(images), encoder(images)
    assert features.dtype == torch.bfloat16
    expected = encoder.linear(features.double().mean(dim=(2, 3)).float())
    torch.testing.assert_close(embeddings, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_memory_format_an_encoder_names_changes_nothing_but_rounding(name: EncoderName) -> None:
    encoder = trained_a_little(name)
    expected = encoder(scans(name, 3))
    encoder.to(memory_format=encoder.memory_format)
    torch.testing.assert_close(encoder(scans(name, 3)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_carries_everything_that_decides_the_embedding(name: EncoderName) -> None:
    encoder = trained_a_little(name)
    copy = build_encoder(name, in_channels=1, embedding_width=24).eval()
    assert not torch.equal(copy(scans(name, 2)), encoder(scans(name, 2)))
    copy.load_state_dict(encoder.state_dict())
    assert torch.equal(copy(scans(name, 2)), encoder(scans(name, 2)))


# GroupNorm


@pytest.mark.parametrize("shape", [(2, 24, 5, 4), (3, 12, 4, 3, 2)])
def test_group_norm_is_that_of_torch_and_is_traced_without_a_warning(shape: tuple[int, ...]) -> None:
    width = shape[1]
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    layer, oracle = GroupNorm(width, eps=0.3), torch.nn.GroupNorm(8 if width == 24 else 4, width, eps=0.3)
    torch.nn.init.normal_(layer.weight)
    oracle.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(features), oracle(features))
    with torch.no_grad(), pytest.warns(DeprecationWarning, match=r"torch\.jit\.trace"):
        traced = torch.jit.trace(layer, features)
    torch.testing.assert_close(traced(features[:1]), oracle(features[:1]))


def test_group_norm_replaces_every_batch_norm_however_deep() -> None:
    inner = torch.nn.Sequential(torch.nn.BatchNorm3d(16, eps=1e-3), torch.nn.ReLU())
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.BatchNorm2d(8), inner)
    put_group_norm(module)
    assert [type(layer).__name__ for layer in module] == ["Conv2d", "GroupNorm", "Sequential"]
    assert [type(layer).__name__ for layer in inner] == ["GroupNorm", "ReLU"]
    assert (module[1].eps, inner[0].eps) == (1e-5, 1e-3)
