"""Temporal Shift Module on ResNet-18 (Lin et al. 2019, as LEARNER uses it): a 2D network that sees motion.

In front of the first convolution of every residual block an eighth of the channels comes from the next frame and an
eighth from the one before; at both ends of a clip zeros come in. It costs no parameter and no multiplication. The
shortcut of the block carries the frame as it was.

Frames are picked here, and clips keep an axis of their own until that is done: a batch in which frames of different
patients could meet in one clip cannot be given.
"""

from typing import ClassVar

import torch
from torch import nn

from trainer.data.drawing import uniform_rows
from trainer.encoders.base import Encoder, NormName
from trainer.encoders.narrow import Conv2d
from trainer.encoders.resnet2d import resnet_features

NUM_FRAMES = 8
"""Frames of a clip that the network sees, as in the LEARNER paper."""

_PARTS = 8
"""One part of so many of the channels moves each way."""

_FEATURE_WIDTH = 512


def shift_frames(features_BTCHW: torch.Tensor) -> torch.Tensor:
    """Move the first eighth of the channels one frame back and the second eighth one frame on; zeros come in.

    Args:
        features_BTCHW: (B, T, C, H, W); less than 8 channels are left as they are.

    Returns:
        The same shape: channels [0, C/8) of frame t are those of t + 1, channels [C/8, C/4) those of t - 1.
    """
    fold = features_BTCHW.shape[2] // _PARTS
    later, earlier, rest = features_BTCHW.tensor_split((fold, 2 * fold), dim=2)
    from_next = torch.cat((later[:, 1:], torch.zeros_like(later[:, :1])), dim=1)
    from_last = torch.cat((torch.zeros_like(earlier[:, :1]), earlier[:, :-1]), dim=1)
    return torch.cat((from_next, from_last, rest), dim=2)


class ShiftedConv2d(Conv2d):
    """A convolution that shifts channels between the frames of a clip first; parameters and names as of Conv2d.

    Args:
        like: the layer to replace; its parameters are shared.
        num_frames: frames of a clip; the batch axis holds whole clips, frame after frame.
    """

    def __init__(self, like: nn.Conv2d, num_frames: int) -> None:
        super().__init__(
            like.in_channels,
            like.out_channels,
            (like.kernel_size[0], like.kernel_size[1]),
            stride=(like.stride[0], like.stride[1]),
            padding=like.padding if isinstance(like.padding, str) else (like.padding[0], like.padding[1]),
            bias=like.bias is not None,
        )
        self.weight, self.bias = like.weight, like.bias
        self.num_frames = num_frames
        self.fold = like.in_channels // _PARTS

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Shift and convolve (B * T, C, H, W).

        Raises:
            ValueError: the batch axis does not hold whole clips.
        """
        num_images = input.shape[0]
        if isinstance(num_images, int) and num_images % self.num_frames:
            raise ValueError(
                f"{num_images} frames are no whole number of clips of {self.num_frames}; give (B, T, C, H, W)"
            )
        clips_BTCHW = torch.unflatten(input, 0, (-1, self.num_frames))
        return super().forward(shift_frames(clips_BTCHW).flatten(0, 1))


class TemporalShiftResNet18(Encoder):
    """Temporal Shift Module on a 2D ResNet-18, features averaged over the frames, and a linear layer.

    11,301,568 parameters with one channel and width 256: those of `ResNet18Image`, under the same names.

    Clips of any length from `num_frames` are taken. They are cut into `num_frames` chunks, as equal as whole frames
    allow. In evaluation the middle frame of each is seen. In training it is one random frame of each chunk, for every
    clip anew; in a run it depends on seed, epoch, batch and the clip's number in the batch (trainer/data/drawing.py).

    Args:
        in_channels: channels C of a frame.
        embedding_width: width E of the embedding.
        norm: `batch`: statistics over all frames of the batch; `group`: of each frame alone.
        num_frames: frames that are seen.
    """

    input_axes: ClassVar[str] = "BTCHW"
    memory_format: ClassVar[torch.memory_format] = torch.channels_last

    def __init__(
        self,
        *,
        in_channels: int = 1,
        embedding_width: int = 256,
        norm: NormName = "batch",
        num_frames: int = NUM_FRAMES,
    ) -> None:
        if num_frames < 1:
            raise ValueError(f"num_frames is {num_frames}; it must be at least 1")
        features = resnet_features(18, in_channels=in_channels, norm=norm)
        super().__init__(
            features, in_channels=in_channels, feature_width=_FEATURE_WIDTH, embedding_width=embedding_width
        )
        self.num_frames = num_frames
        for name in ("layer1", "layer2", "layer3", "layer4"):
            for block in features.get_submodule(name).children():
                conv = block.get_submodule("conv1")
                assert isinstance(conv, nn.Conv2d)
                block.conv1 = ShiftedConv2d(conv, num_frames)

    def forward(self, clips_BTCHW: torch.Tensor) -> torch.Tensor:
        """Embed clips.

        Args:
            clips_BTCHW: floating point in [0, 1], T from `num_frames`, C = `in_channels`, edges from 16 pixels.

        Returns:
            embeddings_BE, float32 (float64 for a float64 model), not normalised.

        Raises:
            ValueError: another rank or channel count, too few frames, an edge below 16, or whole numbers.
        """
        self._refuse_wrong_input(clips_BTCHW)
        return self._embed_clips(clips_BTCHW)

    def _embed_clips(self, clips_BTCHW: torch.Tensor) -> torch.Tensor:
        picked_BTCHW = self._pick_frames(clips_BTCHW)
        pooled_BTF = torch.unflatten(self._pooled(picked_BTCHW.flatten(0, 1)), 0, (-1, self.num_frames))
        embeddings_BE: torch.Tensor = self.linear(pooled_BTF.mean(dim=1))
        return embeddings_BE

    def _pick_frames(self, clips_BTCHW: torch.Tensor) -> torch.Tensor:
        # The length of a tuple is a plain number while a graph is being recorded too; of other lengths it raises.
        frames = clips_BTCHW.unbind(dim=1)
        if not self.training:
            return torch.stack([frames[index] for index in middle_frames(len(frames), self.num_frames)], dim=1)
        indices_BT = draw_frames(len(clips_BTCHW), len(frames), self.num_frames).to(clips_BTCHW.device)
        clips_B1 = torch.arange(len(clips_BTCHW), device=clips_BTCHW.device)[:, None]
        return clips_BTCHW[clips_B1, indices_BT]


def middle_frames(num_frames: int, num_chunks: int) -> list[int]:
    """The middle frame of each chunk; of an even number of frames the later of the two.

    Raises:
        ValueError: fewer frames than chunks.
    """
    return [(start + stop) // 2 for start, stop in chunk_bounds(num_frames, num_chunks)]


def draw_frames(num_clips: int, num_frames: int, num_chunks: int) -> torch.Tensor:
    """One random frame of each chunk for every clip, each frame of a chunk with the same chance.

    Returns:
        Whole numbers of shape (num_clips, num_chunks), drawn as `uniform_rows` says.

    Raises:
        ValueError: fewer frames than chunks.
    """
    starts_T, stops_T = torch.tensor(chunk_bounds(num_frames, num_chunks)).unbind(dim=1)
    chances_BT = uniform_rows(num_clips, num_chunks)
    return starts_T + (chances_BT * (stops_T - starts_T)).long()


def chunk_bounds(num_frames: int, num_chunks: int) -> list[tuple[int, int]]:
    """Cut frames 0 .. T - 1 into chunks as equal as whole frames allow: [k T / n, (k + 1) T / n), rounded down.

    Returns:
        First frame, and the frame after the last, of each chunk.

    Raises:
        ValueError: fewer frames than chunks.
    """
    if num_frames < num_chunks:
        raise ValueError(
            f"clips have {num_frames} frames; the encoder needs at least {num_chunks}: record longer clips, "
            "or leave short ones out"
        )
    return [(k * num_frames // num_chunks, (k + 1) * num_frames // num_chunks) for k in range(num_chunks)]


class SliceShiftResNet18(TemporalShiftResNet18):
    """The same network on volumes: axial slices play the frames, as LEARNER does for MRI.

    The axes D, H, W of a volume point right, anterior and superior. A frame is the plane (D, H) at one position of the
    last axis, the first frame the lowest slice. Arguments are those of `TemporalShiftResNet18`.
    """

    input_axes: ClassVar[str] = "BCDHW"

    def forward(self, volumes_BCDHW: torch.Tensor) -> torch.Tensor:
        """Embed volumes.

        Args:
            volumes_BCDHW: floating point in [0, 1], C = `in_channels`, edges from 16 voxels.

        Returns:
            embeddings_BE, float32 (float64 for a float64 model), not normalised.

        Raises:
            ValueError: another rank or channel count, an edge below 16, or whole numbers.
        """
        self._refuse_wrong_input(volumes_BCDHW)
        return self._embed_clips(volumes_BCDHW.permute(0, 4, 1, 2, 3))
