"""Encoders by name, and the channels that stored rows have for each."""

import pytest

from preprocess.errors import UsageError
from trainer.encoders import (
    FastEncoder,
    ReferenceEncoder,
    ResNet18Image,
    ResNet50Image,
    SliceShiftResNet18,
    TemporalShiftResNet18,
    build_encoder,
    input_channels,
)

KINDS = {
    "reference": ReferenceEncoder,
    "fast": FastEncoder,
    "slice-tsm-resnet18": SliceShiftResNet18,
    "tsm-resnet18": TemporalShiftResNet18,
    "resnet50": ResNet50Image,
    "resnet18": ResNet18Image,
}


@pytest.mark.parametrize("name", KINDS)
def test_every_name_builds_its_encoder_with_the_widths_requested(name):
    encoder = build_encoder(name, in_channels=2, embedding_width=24, norm="group")
    assert type(encoder) is KINDS[name]
    assert (encoder.in_channels, encoder.embedding_width) == (2, 24)
    assert not [layer for layer in encoder.modules() if "BatchNorm" in type(layer).__name__]


def test_unknown_names_are_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match="no encoder is called 'resnet'") as refusal:
        build_encoder("resnet", in_channels=1, embedding_width=8)  # type: ignore[arg-type]
    assert all(name in str(refusal.value) for name in KINDS)
    with pytest.raises(ValueError, match="no normalisation is called 'layer'; choose batch or group"):
        build_encoder("fast", in_channels=1, embedding_width=8, norm="layer")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "row_shape", "channels"),
    [
        ("fast", (2, 96, 96, 96), 2),
        ("slice-tsm-resnet18", (1, 96, 96, 96), 1),
        ("tsm-resnet18", (30, 3, 224, 224), 3),
        ("resnet50", (3, 224, 224), 3),
    ],
)
def test_channels_are_read_where_the_rows_of_each_kind_have_them(name, row_shape, channels):
    assert input_channels(name, row_shape) == channels


def test_rows_of_another_rank_are_refused_with_both_shapes():
    with pytest.raises(
        UsageError, match=r"'resnet18' takes rows \(C, H, W\), the store's rows have shape \(1, 9, 9, 9"
    ):
        input_channels("resnet18", (1, 9, 9, 9))
