"""A finished run's networks, loaded: what evaluation measures and export writes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from preprocess.errors import RunError
from preprocess.store import Store
from trainer.encoders import Embedder, ProgressionHead, Projector, ScoreHead
from trainer.encoders.change_head import ChangeHead
from trainer.encoders.ensemble import EnsembleEncoder
from trainer.encoders.visits import VisitEncoder
from trainer.fit.change import FEW_PEOPLE
from trainer.fit.embedding import VisitEmbeddings
from trainer.fit.model import finished_encoder_for
from trainer.fit.run import Run
from trainer.fit.run_files import RunResult


class PairModel(nn.Module):
    """What is exported: embeddings of scans, and calibrated progression probabilities of pairs.

        model = PairModel(encoder, head, temperature=1.3).eval()
        probabilities_B3 = model.compare(earlier_BCDHW, later_BCDHW)

    Args:
        encoder: from volumes to embeddings.
        head: from differences to logits.
        temperature: what logits are divided by before the softmax.
    """

    def __init__(self, encoder: Embedder, head: ProgressionHead | ChangeHead, temperature: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.temperature = temperature

    def embed(self, volumes_BCDHW: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, E) of float32 volumes in [0, 1]."""
        embeddings_BE: torch.Tensor = self.encoder(volumes_BCDHW)
        return embeddings_BE

    def compare(self, earlier_BCDHW: torch.Tensor, later_BCDHW: torch.Tensor) -> torch.Tensor:
        """Probabilities (B, 3) of improved, stable and declined."""
        return self.judge(self.embed(later_BCDHW) - self.embed(earlier_BCDHW))

    def judge(self, differences_BE: torch.Tensor) -> torch.Tensor:
        """Probabilities (B, 3) from later minus earlier embeddings: the softmax of the calibrated logits.

        Improved and declined are added first, so that exchanging them changes no bit of the sum. `torch.softmax` adds
        from left to right, and differs in the last bit on a third of exchanged pairs.
        """
        logits_B3 = self.head(differences_BE) / self.temperature
        weights_B3 = (logits_B3 - logits_B3.amax(dim=1, keepdim=True)).exp()
        improved_B1, stable_B1, declined_B1 = weights_B3.split(1, dim=1)
        probabilities_B3: torch.Tensor = weights_B3 / ((improved_B1 + declined_B1) + stable_B1)
        return probabilities_B3

    def forward(self, volumes_BCDHW: torch.Tensor) -> torch.Tensor:
        """Same as `embed`."""
        return self.embed(volumes_BCDHW)


@dataclass(frozen=True)
class Trained:
    """A loaded run.

    Attributes:
        run: its folder and recipe.
        result: its result.json.
        encoder: in evaluation mode; of visits where the recipe has several modalities, an `EnsembleEncoder` where it
            has several members.
        score_head: predicts the standardised score; None when the recipe trained none.
        head: the progression head; None when the training pairs showed fewer than two classes.
        has_fusion: whether the encoder of visits holds a fitted fusion head.
        projector: what contrasts were taught on; None when the recipe trained none.
    """

    run: Run
    result: RunResult
    encoder: Embedder
    score_head: ScoreHead | None
    head: ProgressionHead | ChangeHead | None
    has_fusion: bool = False
    projector: Projector | None = None

    def pair_model(self) -> PairModel:
        """The networks as one module.

        Raises:
            RunError: the run has several modalities, or there is no progression head.
        """
        if isinstance(self.encoder, VisitEncoder):
            raise RunError(
                f"{self.run.location.uri}: the run has {len(self.encoder.modalities)} modalities "
                f"({', '.join(self.encoder.modalities)}) and an artefact takes one volume; export a run of one modality"
            )
        if self.head is None and self.run.recipe.head.on == "score":
            raise RunError(
                f"{self.run.location.uri}: the run has no progression head: that of head.on = 'score' is calibrated on "
                f"{FEW_PEOPLE} people or more whom no network was trained on, with two kinds of change in "
                f"{self.run.recipe.outcome.name}; bring more people, or train a recipe with head.on = 'embedding', as "
                "mse is"
            )
        if self.head is None:
            raise RunError(
                f"{self.run.location.uri}: the run has no progression head: its training pairs show fewer than two "
                f"kinds of change in {self.run.recipe.outcome.name}; train on a cohort with scores of two visits"
            )
        fitted = self.result.progression_head
        assert fitted is not None
        return PairModel(self.encoder, self.head, fitted.temperature).eval()

    @torch.inference_mode()
    def probabilities(self, differences_PE: np.ndarray) -> np.ndarray:
        """Progression probabilities (P, 3) from differences of embeddings."""
        return self.pair_model().judge(torch.as_tensor(differences_PE, dtype=torch.float32)).numpy()

    @torch.inference_mode()
    def improvements(self, differences_PE: np.ndarray) -> np.ndarray | None:
        """Told change (P,) of the score, in points, positive where people got better; None without a head on scores."""
        if not isinstance(self.head, ChangeHead):
            return None
        improvement_P = self.head.improvement(torch.as_tensor(differences_PE, dtype=torch.float32))
        return np.asarray((self.head.gain * improvement_P).double().numpy())

    def change_direction(self) -> npt.NDArray[np.float32] | None:
        """Told improvement in points per unit of the embedding (E,); None without a head on scores."""
        if not isinstance(self.head, ChangeHead):
            return None
        weight_E = self.head.direction.weight.detach().numpy()[0] * float(self.head.gain)
        return np.asarray(weight_E, dtype=np.float32)

    @torch.inference_mode()
    def class_probability(self, visits: VisitEmbeddings) -> np.ndarray:
        """Probability (N,) of the positive class of each visit, by the fusion head.

        Raises:
            RunError: the run has no fusion head.
        """
        if not isinstance(self.encoder, VisitEncoder) or not self.has_fusion:
            raise RunError(
                f"{self.run.location.uri}: the run has no fusion head; train with data.modalities on an outcome of two "
                "values"
            )
        logits_N = self.encoder.fuse(torch.as_tensor(visits.modalities_NME), torch.as_tensor(visits.present_NM))
        return np.asarray(torch.sigmoid(logits_N).numpy())

    @torch.inference_mode()
    def projections(self, embeddings_NE: np.ndarray) -> np.ndarray | None:
        """Projections (N, P) of embeddings, unit rows; None when the recipe trained no projector."""
        if self.projector is None:
            return None
        return np.asarray(self.projector(torch.as_tensor(embeddings_NE, dtype=torch.float32)).numpy())

    @torch.inference_mode()
    def predicted_scores(self, embeddings_NE: np.ndarray) -> np.ndarray | None:
        """Predicted scores (N,) in the outcome's own unit; None when the recipe trained no score head."""
        statistics = self.result.score_statistics
        if self.score_head is None or statistics is None:
            return None
        standardised_N = self.score_head(torch.as_tensor(embeddings_NE, dtype=torch.float32)).numpy()
        return np.asarray(standardised_N * statistics.sd + statistics.mean)


def load_trained(run: Run, store: Store) -> Trained:
    """Load a finished run.

    Raises:
        RunError: not finished, or damaged.
    """
    state, result = run.load_model()
    recipe = run.recipe
    members = [finished_encoder_for(recipe.encoder, recipe.data, store) for _ in range(recipe.ensemble.members)]
    encoder = EnsembleEncoder(members) if len(members) > 1 else members[0]
    encoder.load_state_dict(state["encoder"])
    width = encoder.width_joined()
    has_fusion = state.get("fusion_head") is not None
    if isinstance(encoder, VisitEncoder) and has_fusion:
        encoder.network.fusion.load_state_dict(state["fusion_head"])
    score_head = None
    if any(term.trains_score_head for term in recipe.terms):
        score_head = ScoreHead(width)
        score_head.load_state_dict(state["score_head"])
    head: ProgressionHead | ChangeHead | None = None
    if state["progression_head"] is not None:
        head = ChangeHead(width) if recipe.head.on == "score" else ProgressionHead(width, recipe.head.hidden)
        head.load_state_dict(state["progression_head"])
        head.eval()
    projector = None
    # Members of an ensemble have projections of their own, and a linear score has none.
    if any(term.trains_projection for term in recipe.terms) and state["projector"] is not None:
        projector = Projector(width, width, recipe.encoder.projection_width).eval()
        projector.load_state_dict(state["projector"])
    return Trained(run, result, encoder.eval(), score_head, head, has_fusion, projector)
