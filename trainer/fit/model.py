"""The networks of a run in one module: encoder, projection and score head, and what they make of a batch."""

from collections.abc import Mapping

import torch
from torch import nn

from preprocess.store import Store
from trainer.data.labels import Labels
from trainer.encoders import Embedder, Encoder, Projector, ScoreHead, build_encoder
from trainer.encoders.linear_score import LinearScore, WithLinearScore
from trainer.encoders.mirrored import MirroredEncoder
from trainer.encoders.multimodal import ModalitySpec
from trainer.encoders.registry import input_channels
from trainer.encoders.visits import VisitEncoder, modality_spec
from trainer.encoders.weights import load_weights
from trainer.objectives.terms import BatchOutput
from trainer.recipe import DataRecipe, EncoderRecipe, TrainRecipe


def encoder_for(recipe: EncoderRecipe, data: DataRecipe, store: Store) -> Embedder:
    """A new encoder of the recipe for what the store holds.

    Raises:
        StoreError: the store has no such modality.
        UsageError: the encoder takes no such rows.
    """
    if recipe.name == "multimodal":
        kind_of = store.manifest.recipe.kind_of
        specs = {name: modality_spec(name, kind_of(name), store.layout(name).shape) for name in data.modalities}
        return build_visit_encoder(recipe, specs)
    return _scan_encoder(recipe, input_channels(recipe.name, store.layout(data.modality).shape))


def _scan_encoder(recipe: EncoderRecipe, in_channels: int) -> Encoder:
    if recipe.name == "multimodal":
        raise ValueError("encoder 'multimodal' depends on the store's modalities; make it with encoder_for")
    return build_encoder(
        recipe.name,
        in_channels=in_channels,
        embedding_width=recipe.embedding_width,
        norm=recipe.norm,
        shrink=recipe.shrink,
    )


def finished_encoder_for(recipe: EncoderRecipe, data: DataRecipe, store: Store) -> Embedder:
    """The same, mirrored and with a linear score beside it where the recipe asks for that: what a finished run holds.

    Raises:
        StoreError: the store has no such modality.
        UsageError: the encoder takes no such rows.
    """
    encoder = encoder_for(recipe, data, store)
    if not isinstance(encoder, Encoder):
        return encoder
    seen: Embedder = MirroredEncoder(encoder) if recipe.mirror else encoder
    return (
        seen if recipe.linear_grid == 0 else WithLinearScore(seen, LinearScore(recipe.linear_grid, encoder.in_channels))
    )


def build_visit_encoder(recipe: EncoderRecipe, modalities: Mapping[str, ModalitySpec]) -> VisitEncoder:
    """A new encoder of several modalities."""
    return VisitEncoder(modalities, embedding_width=recipe.embedding_width, norm=recipe.norm, residual=recipe.residual)


class TrainingModel(nn.Module):
    """Encoder with the training-only heads.

        model = TrainingModel(build_encoder("fast", in_channels=1, embedding_width=256), projection_width=128)
        output = model(scans_N, labels)

    Args:
        encoder: embeds scans of one modality, or visits with several.
        projection_width: width of the projection.

    Attributes:
        anchor_E: mean embedding of normal scans, for objectives that need it; part of every checkpoint.
    """

    anchor_E: torch.Tensor

    def __init__(self, encoder: Embedder, *, projection_width: int) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.width_joined()
        self.projector = Projector(width, width, projection_width)
        self.score_head = ScoreHead(width)
        self.register_buffer("anchor_E", torch.zeros(width))

    def forward(self, scans_N: torch.Tensor, labels: Labels) -> BatchOutput:
        """Outputs of a batch of B subjects with K scans (or views) each, of one modality.

        Args:
            scans_N: float in [0, 1], N = B * K, the scans of a subject side by side; further axes as the encoder's.
            labels: scores, subjects and days of the batch's scans.
        """
        there_N1 = torch.ones(len(scans_N), 1, dtype=torch.bool, device=scans_N.device)
        return self.judge(self.encoder(scans_N), labels, there_N1)

    def judge(self, embedded: torch.Tensor, labels: Labels, present_NM: torch.Tensor) -> BatchOutput:
        """The same from embeddings of all visits of the batch, wherever and in whatever parts they were computed.

        Args:
            embedded: what the encoder's `embed_visits` returns, of N = B * K visits.
            labels: scores, subjects and days of the batch's scans.
            present_NM: which visit has which modality.
        """
        shape = labels.scores_BK.shape
        modalities_BME = present_BM = fused_B = None
        if isinstance(self.encoder, VisitEncoder):
            modalities_BME, present_BM = embedded, present_NM
            fused_B = self.encoder.fuse(embedded, present_NM)
        embeddings_NE = self.encoder.join(embedded, present_NM)
        return BatchOutput(
            embeddings_BKE=embeddings_NE.reshape(*shape, -1),
            projections_BKP=self.projector(embeddings_NE).unflatten(0, shape),
            predicted_BK=self.score_head(embeddings_NE).unflatten(0, shape),
            scores_BK=labels.scores_BK,
            subjects_B=labels.subjects_B,
            days_BK=labels.days_BK,
            anchor_E=self.anchor_E,
            modalities_BME=modalities_BME,
            present_BM=present_BM,
            fused_B=fused_B,
        )


def new_model(recipe: TrainRecipe, store: Store) -> TrainingModel:
    """The model that a run begins with: equal for equal seeds, and the process's random numbers stay where they are.

    Raises:
        StoreError: the store has no such modality.
        UsageError: the encoder takes no such rows, or encoder.initial_weights do not fit it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        encoder = encoder_for(recipe.encoder, recipe.data, store)
        model = TrainingModel(encoder, projection_width=recipe.encoder.projection_width)
    if recipe.encoder.initial_weights:
        load_weights(model.encoder, recipe.encoder.initial_weights)
    return model


def scan_model(recipe: EncoderRecipe, *, in_channels: int) -> TrainingModel:
    """A new model for scans of one modality, without a store; `new_model` makes that of a run.

    Args:
        recipe: names and widths.
        in_channels: C of the scans.

    Raises:
        ValueError: the encoder takes several modalities.
    """
    return TrainingModel(_scan_encoder(recipe, in_channels), projection_width=recipe.projection_width)
