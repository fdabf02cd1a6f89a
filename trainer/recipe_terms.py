"""The objectives as a recipe names them: one class of settings for each, told apart by `name`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from preprocess.recipe import Recipe


class _Term(Recipe):
    """What all terms have.

    Attributes:
        weight: of the term in the loss.
        needs_scores: whether scans without a score teach it nothing.
        needs_views: whether it compares two views of one scan.
        needs_modalities: whether it compares or joins the modalities of a visit.
    """

    weight: float = Field(default=1.0, gt=0)
    needs_scores: ClassVar[bool] = False
    needs_views: ClassVar[bool] = False
    needs_modalities: ClassVar[bool] = False


class InfoNceTerm(_Term):
    """`info_nce` on the projections of two visits; needs data.sampling = `pairs`."""

    name: Literal["info_nce"]
    temperature: float = Field(default=0.07, gt=0)


class LearnerTerm(_Term):
    """`learner` on embeddings and predicted scores; score statistics come from the training subjects.

    Attributes:
        variant: `mse`, `contrastive`, `weighted` or `regressed`.
        contrast_weight: of the contrastive part within the term.
        margin: of the contrastive part.
        threshold: largest score difference that counts as alike; the outcome's threshold when not given.
    """

    name: Literal["learner"]
    variant: Literal["mse", "contrastive", "weighted", "regressed"] = "regressed"
    contrast_weight: float = Field(default=1.0, gt=0)
    margin: float = Field(default=1.0, gt=0)
    threshold: float | None = Field(default=None, gt=0)
    needs_scores: ClassVar[bool] = True


class NtXentTerm(_Term):
    """`nt_xent` (SimCLR) on the projections of two views; needs data.views = 2."""

    name: Literal["nt_xent"]
    temperature: float = Field(default=0.5, gt=0)
    needs_views: ClassVar[bool] = True


class SupConTerm(_Term):
    """`sup_con` on the projections of all views; scans of one label attract.

    Attributes:
        temperature: of the similarities.
        bin_width: scores in one bin of this width share a label; 0 where only equal scores do.
        normal: score of a normal scan; given, there are two labels, normal and not.
    """

    name: Literal["sup_con"]
    temperature: float = Field(default=0.1, gt=0)
    bin_width: float = Field(default=0.0, ge=0)
    normal: float | None = None
    needs_scores: ClassVar[bool] = True


class SupReMixTerm(_Term):
    """`supremix` on embeddings of all views; needs data.views = 2.

    Attributes:
        temperature: of the similarities.
        window: largest score difference over which two scans are mixed into a positive.
        bin_width: scores are rounded to multiples of it, since equal labels make positives; 0 leaves them as they are.
        mix_positives: whether positives are mixed.
        mix_negatives: whether negatives are mixed.
        magnify: whether negatives weigh by their distance in score.
    """

    name: Literal["supremix"]
    temperature: float = Field(default=0.2, gt=0)
    window: float = Field(default=5.0, gt=0)
    bin_width: float = Field(default=1.0, ge=0)
    mix_positives: bool = True
    mix_negatives: bool = True
    magnify: bool = True
    needs_scores: ClassVar[bool] = True
    needs_views: ClassVar[bool] = True


class MarginContrastTerm(_Term):
    """`margin_contrast` on the projections of all pairs of a batch: normal against abnormal.

    Attributes:
        margin: of the cosine distance, which goes to 2.
        normal: score of a normal scan; all others are abnormal.
    """

    name: Literal["margin_contrast"]
    margin: float = Field(default=2.0, gt=0)
    normal: float = 0.0
    needs_scores: ClassVar[bool] = True


class PreferenceTerm(_Term):
    """`preference` on the embeddings of all abnormal pairs of a batch with different scores.

    Attributes:
        beta: steepness; with 1 the loss cannot go below 0.127.
        normal: score of a normal scan.
        num_normals: training scans whose mean embedding is the anchor, made anew each epoch.
    """

    name: Literal["preference"]
    beta: float = Field(default=1.0, gt=0)
    normal: float = 0.0
    num_normals: int = Field(default=32, ge=1)
    needs_scores: ClassVar[bool] = True


class RankNContrastTerm(_Term):
    """`rank_n_contrast` on embeddings and scores."""

    name: Literal["rank_n_contrast"]
    temperature: float = Field(default=2.0, gt=0)
    needs_scores: ClassVar[bool] = True


class ChronoContrastTerm(_Term):
    """`chrono_contrast` on embeddings and the order of visits; needs data.sampling = `visits`."""

    name: Literal["chrono_contrast"]
    temperature: float = Field(default=1.0, gt=0)


class CrossModalityTerm(_Term):
    """`cross_modality` (CMC) on the embeddings of a visit's modalities; needs data.modalities."""

    name: Literal["cross_modality"]
    temperature: float = Field(default=0.7, gt=0)
    needs_modalities: ClassVar[bool] = True


class CrossSubjectTerm(_Term):
    """`cross_subject` (CSS) on a visit's joined modalities, with the score as class; needs data.modalities."""

    name: Literal["cross_subject"]
    temperature: float = Field(default=0.7, gt=0)
    needs_scores: ClassVar[bool] = True
    needs_modalities: ClassVar[bool] = True


class FusionBceTerm(_Term):
    """Binary cross-entropy of the linear fusion head, end to end; needs data.modalities and two classes of scores."""

    name: Literal["fusion_bce"]
    needs_scores: ClassVar[bool] = True
    needs_modalities: ClassVar[bool] = True


Term = Annotated[
    InfoNceTerm
    | LearnerTerm
    | NtXentTerm
    | SupConTerm
    | SupReMixTerm
    | MarginContrastTerm
    | PreferenceTerm
    | RankNContrastTerm
    | ChronoContrastTerm
    | CrossModalityTerm
    | CrossSubjectTerm
    | FusionBceTerm,
    Field(discriminator="name"),
]
