"""Networks from volumes to embeddings, and the heads on top of embeddings."""

from trainer.encoders.conv3d import Encoder, EncoderName, FastEncoder, NormName, ReferenceEncoder, build_encoder
from trainer.encoders.heads import ProgressionHead, Projector, ScoreHead

__all__ = [
    "Encoder",
    "EncoderName",
    "FastEncoder",
    "NormName",
    "ProgressionHead",
    "Projector",
    "ReferenceEncoder",
    "ScoreHead",
    "build_encoder",
]
