"""The encoders of one modality by the names that recipes use, and which stored rows each can take."""

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

from preprocess.errors import UsageError
from trainer.encoders.base import Encoder, NormName
from trainer.encoders.conv3d import FastEncoder, ReferenceEncoder
from trainer.encoders.resnet2d import ResNet18Image, ResNet50Image
from trainer.encoders.tsm import SliceShiftResNet18, TemporalShiftResNet18

EncoderName: TypeAlias = Literal["reference", "fast", "slice-tsm-resnet18", "tsm-resnet18", "resnet50", "resnet18"]

_Kind: TypeAlias = (
    type[ReferenceEncoder]
    | type[FastEncoder]
    | type[SliceShiftResNet18]
    | type[TemporalShiftResNet18]
    | type[ResNet50Image]
    | type[ResNet18Image]
)


def build_encoder(
    name: EncoderName, *, in_channels: int, embedding_width: int, norm: NormName = "batch", shrink: int = 1
) -> Encoder:
    """Build an encoder by the name that recipes use.

    Args:
        name: `reference`, `fast` or `slice-tsm-resnet18` for volumes, `tsm-resnet18` for clips, `resnet50` or
            `resnet18` for images.
        in_channels: channels C of the input; `input_channels` derives them from the shape of a stored row.
        embedding_width: width E of the embedding.
        norm: `batch`: statistics of the batch; `group`: of each volume, frame or image alone, which gradient caching
            needs.
        shrink: edge of the blocks of voxels that are averaged first; of `fast` only.

    Raises:
        ValueError: no encoder or normalisation has that name, or the encoder does not shrink.
    """
    kind = _kind(name)
    if norm not in get_args(NormName):
        raise ValueError(f"no normalisation is called {norm!r}; choose {' or '.join(get_args(NormName))}")
    if shrink != 1:
        if kind is not FastEncoder:
            raise ValueError(f"encoder {name!r} does not shrink volumes; choose 'fast', or shrink = 1")
        return FastEncoder(in_channels=in_channels, embedding_width=embedding_width, norm=norm, shrink=shrink)
    return kind(in_channels=in_channels, embedding_width=embedding_width, norm=norm)


def input_channels(name: EncoderName, row_shape: Sequence[int]) -> int:
    """Channels C that an encoder of this name needs for stored rows of this shape.

    Args:
        name: as for `build_encoder`.
        row_shape: shape of one row of the store: (C, D, H, W), (T, C, H, W) or (C, H, W).

    Raises:
        UsageError: the encoder takes rows of another rank.
        ValueError: no encoder has that name.
    """
    axes = _kind(name).input_axes[1:]
    if len(row_shape) != len(axes):
        raise UsageError(
            f"encoder {name!r} takes rows ({', '.join(axes)}), the store's rows have shape {tuple(row_shape)}; "
            "choose an encoder for that kind of scan"
        )
    return row_shape[axes.index("C")]


def _kind(name: EncoderName) -> _Kind:
    kinds: dict[str, _Kind] = {
        "reference": ReferenceEncoder,
        "fast": FastEncoder,
        "slice-tsm-resnet18": SliceShiftResNet18,
        "tsm-resnet18": TemporalShiftResNet18,
        "resnet50": ResNet50Image,
        "resnet18": ResNet18Image,
    }
    if name not in kinds:
        raise ValueError(
            f"no encoder is called {name!r}; choose reference or fast or slice-tsm-resnet18 for volumes, "
            "tsm-resnet18 for clips, resnet50 or resnet18 for images"
        )
    return kinds[name]
