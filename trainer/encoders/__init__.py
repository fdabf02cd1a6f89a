"""Networks from volumes to embeddings, and the heads on top of embeddings."""

from trainer.encoders.base import Embedder, Encoder, NormName
from trainer.encoders.conv3d import FastEncoder, ReferenceEncoder
from trainer.encoders.heads import ProgressionHead, Projector, ScoreHead
from trainer.encoders.registry import EncoderName, build_encoder, input_channels
from trainer.encoders.resnet2d import ResNet18Image, ResNet50Image
from trainer.encoders.tsm import SliceShiftResNet18, TemporalShiftResNet18

__all__ = [
    "Embedder",
    "Encoder",
    "EncoderName",
    "FastEncoder",
    "NormName",
    "ProgressionHead",
    "Projector",
    "ReferenceEncoder",
    "ResNet18Image",
    "ResNet50Image",
    "ScoreHead",
    "SliceShiftResNet18",
    "TemporalShiftResNet18",
    "build_encoder",
    "input_channels",
]
