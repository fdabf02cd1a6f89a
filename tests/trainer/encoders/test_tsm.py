"""What the temporal shift moves, which frames are seen, and that frames of different clips do not meet."""

from fractions import Fraction

import pytest
import torch
from torch import nn

from trainer.encoders import ResNet18Image, SliceShiftResNet18, TemporalShiftResNet18
from trainer.encoders.tsm import ShiftedConv2d, chunk_bounds, draw_frames, middle_frames, shift_frames


def clips(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def trained_a_little(kind: type[TemporalShiftResNet18], *shape: int) -> TemporalShiftResNet18:
    """An encoder in eval mode whose BatchNorm statistics have left their starting values."""
    torch.manual_seed(0)
    encoder = kind(embedding_width=24)
    for seed in range(3):
        encoder(clips(4, *shape, seed=seed))
    return encoder.eval()


def shifted_by_loop(features: torch.Tensor) -> torch.Tensor:
    """The definition, one frame and channel at a time."""
    batch, num_frames, channels = features.shape[:3]
    expected = torch.zeros_like(features)
    for clip in range(batch):
        for t in range(num_frames):
            for channel in range(channels):
                source = t + 1 if channel < channels // 8 else t - 1 if channel < 2 * (channels // 8) else t
                if 0 <= source < num_frames:
                    expected[clip, t, channel] = features[clip, source, channel]
    return expected


# The shift


@pytest.mark.parametrize("num_channels", [1, 7, 8, 19, 32])
@pytest.mark.parametrize("num_frames", [1, 2, 8])
def test_shift_is_that_of_a_loop_over_frames_and_channels(num_channels, num_frames):
    features = clips(2, num_frames, num_channels, 3, 2)
    assert torch.equal(shift_frames(features), shifted_by_loop(features))


def test_shifted_convolution_is_the_plain_one_on_shifted_frames():
    torch.manual_seed(0)
    plain = nn.Conv2d(16, 6, 3, stride=2, padding=1, bias=False)
    frames = clips(2, 8, 16, 9, 9)
    expected = plain(shifted_by_loop(frames).flatten(0, 1))
    assert torch.equal(ShiftedConv2d(plain, 8)(frames.flatten(0, 1)), expected)


@pytest.mark.parametrize("layer", ["layer1", "layer2", "layer4"])
@pytest.mark.parametrize("t", [0, 1, 4, 7])
def test_impulse_in_a_frame_reaches_exactly_its_neighbours_after_one_block(layer, t):
    block = trained_a_little(TemporalShiftResNet18, 8, 1, 32, 32).features.get_submodule(layer)[0]
    frames = clips(2, 8, block.conv1.in_channels, 8, 8)
    disturbed = frames.clone()
    disturbed[0, t] += 1.0
    change = (block(disturbed.flatten(0, 1)) - block(frames.flatten(0, 1))).unflatten(0, (2, 8)).abs().amax((2, 3, 4))
    reached = {(clip, frame) for clip, frame in change.nonzero().tolist()}
    assert reached == {(0, frame) for frame in (t - 1, t, t + 1) if 0 <= frame < 8}


def test_every_residual_block_shifts_in_front_of_its_first_convolution_only():
    features = TemporalShiftResNet18().features
    shifted = {name for name, layer in features.named_modules() if isinstance(layer, ShiftedConv2d)}
    assert shifted == {f"layer{layer}.{block}.conv1" for layer in (1, 2, 3, 4) for block in (0, 1)}


def test_parameters_are_those_of_the_2d_network_under_the_same_names():
    shapes = [
        {name: value.shape for name, value in encoder.state_dict().items()}
        for encoder in (TemporalShiftResNet18(), ResNet18Image(), SliceShiftResNet18())
    ]
    assert shapes[0] == shapes[1] == shapes[2]
    assert sum(parameter.numel() for parameter in TemporalShiftResNet18().parameters()) == 11_301_568


def test_order_of_frames_matters_and_without_the_shift_it_would_not():
    encoder = trained_a_little(TemporalShiftResNet18, 8, 1, 32, 32)
    clip = clips(2, 8, 1, 32, 32)
    assert (encoder(clip) - encoder(clip.flip(1))).abs().max() > 1e-3
    unshifted = ResNet18Image(embedding_width=24).eval()
    unshifted.load_state_dict(encoder.state_dict())

    def mean_over_frames(clip: torch.Tensor) -> torch.Tensor:
        return torch.stack([unshifted(frame) for frame in clip.unbind(1)]).mean(0)

    torch.testing.assert_close(mean_over_frames(clip), mean_over_frames(clip.flip(1)), rtol=0, atol=1e-6)
    assert (encoder(clip) - mean_over_frames(clip)).abs().max() > 1e-3


def test_a_batch_of_loose_frames_is_refused():
    conv = ShiftedConv2d(nn.Conv2d(8, 8, 3), 8)
    with pytest.raises(ValueError, match="12 frames are no whole number of clips of 8"):
        conv(clips(12, 8, 5, 5))
    with pytest.raises(ValueError, match=r"clips have shape \(16, 1, 32, 32\); the encoder needs 5 axes"):
        TemporalShiftResNet18()(clips(16, 1, 32, 32))


# Which frames are seen


@pytest.mark.parametrize("num_frames", [8, 9, 13, 16, 61, 96])
def test_chunks_hold_every_frame_once_and_are_as_equal_as_they_can_be(num_frames):
    bounds = chunk_bounds(num_frames, 8)
    assert [frame for start, stop in bounds for frame in range(start, stop)] == list(range(num_frames))
    assert {stop - start for start, stop in bounds} <= {num_frames // 8, -(-num_frames // 8)}


@pytest.mark.parametrize("num_frames", [8, 9, 13, 16, 61, 96])
def test_middle_frames_lie_within_a_frame_of_the_exact_chunk_centres(num_frames):
    for k, index in enumerate(middle_frames(num_frames, 8)):
        centre = Fraction((2 * k + 1) * num_frames, 16)
        assert abs(index + Fraction(1, 2) - centre) <= 1
    assert middle_frames(8, 8) == list(range(8))
    assert middle_frames(24, 8) == list(range(1, 24, 3))


@pytest.mark.parametrize("num_frames", [8, 11, 24])
def test_in_evaluation_the_middle_frames_alone_decide(num_frames):
    encoder = trained_a_little(TemporalShiftResNet18, 8, 1, 32, 32)
    clip = clips(2, num_frames, 1, 32, 32)
    state = torch.get_rng_state()
    torch.testing.assert_close(encoder(clip), encoder(clip[:, middle_frames(num_frames, 8)]))
    assert torch.equal(torch.get_rng_state(), state)


def test_drawn_frames_lie_in_their_chunks_and_are_all_equally_likely():
    torch.manual_seed(0)
    indices = draw_frames(6000, 19, 8)
    counts = torch.stack([(indices == frame).sum(0) for frame in range(19)])
    for k, (start, stop) in enumerate(chunk_bounds(19, 8)):
        size = stop - start
        assert counts[:, k].sum() == counts[start:stop, k].sum() == 6000
        sd = (6000 * (1 / size) * (1 - 1 / size)) ** 0.5
        assert (counts[start:stop, k] - 6000 / size).abs().max() <= 5 * sd


def test_in_training_each_clip_is_embedded_from_frames_of_its_own_drawn_by_the_global_generator():
    torch.manual_seed(0)
    encoder = TemporalShiftResNet18(embedding_width=24, norm="group").train()
    clip = clips(3, 29, 1, 32, 32)
    torch.manual_seed(5)
    drawn = encoder(clip)
    torch.manual_seed(5)
    indices = draw_frames(3, 29, 8)
    assert len({tuple(row) for row in indices.tolist()}) == 3
    by_hand = torch.stack([frames[rows] for frames, rows in zip(clip, indices, strict=True)])
    torch.testing.assert_close(drawn, encoder(by_hand))
    assert not torch.allclose(encoder(clip), drawn)


def test_training_goes_on_with_the_same_frames_when_the_generator_is_restored():
    encoder = TemporalShiftResNet18(embedding_width=8, norm="group").train()
    clip = clips(2, 40, 1, 16, 16)
    state = torch.get_rng_state()
    lost = [encoder(clip) for _ in range(2)]
    torch.set_rng_state(state)
    resumed = [encoder(clip) for _ in range(2)]
    assert torch.equal(torch.stack(resumed), torch.stack(lost))
    assert not torch.equal(lost[0], lost[1])


@pytest.mark.parametrize("training", [True, False])
def test_too_short_clips_and_too_thin_volumes_are_refused(training):
    encoder = TemporalShiftResNet18(embedding_width=8).train(training)
    with pytest.raises(ValueError, match="clips have 7 frames; the encoder needs at least 8: record longer clips"):
        encoder(clips(2, 7, 1, 32, 32))
    assert TemporalShiftResNet18(num_frames=4).eval()(clips(2, 7, 1, 16, 16)).shape == (2, 256)
    with pytest.raises(ValueError, match="num_frames is 0"):
        TemporalShiftResNet18(num_frames=0)


def test_traced_graph_refuses_clips_of_another_length_than_it_was_recorded_with():
    encoder = trained_a_little(TemporalShiftResNet18, 8, 1, 16, 16)
    with torch.no_grad(), pytest.warns(DeprecationWarning, match=r"torch\.jit\.trace"):
        traced = torch.jit.trace(encoder, clips(2, 10, 1, 16, 16))
    with pytest.raises(RuntimeError, match="Expected 10 elements in a list but found 11"):
        traced(clips(2, 11, 1, 16, 16))


# Slices as frames


def test_axial_slices_play_the_frames_from_the_lowest_up():
    encoder = trained_a_little(SliceShiftResNet18, 1, 32, 24, 20)
    volume = clips(2, 1, 32, 24, 20)
    same = TemporalShiftResNet18(embedding_width=24).eval()
    same.load_state_dict(encoder.state_dict())
    slices = torch.stack([volume[..., height] for height in range(20)], dim=1)
    torch.testing.assert_close(encoder(volume), same(slices))
    unseen = volume.clone()
    unseen[..., [index for index in range(20) if index not in middle_frames(20, 8)]] = 0.0
    assert torch.equal(encoder(unseen), encoder(volume))
    assert not torch.allclose(encoder(volume.transpose(2, 3)), encoder(volume))
