"""Whether an embedding knows who a person is: retrieval among all held-out scans, and verification of one pair.

The same figures are taken of the embedding, of the projection and of the untrained network, so that they compare.
"""

import numpy as np

from trainer.data.cohort import Cohort
from trainer.metrics.embedding_space import same_subject_hits
from trainer.metrics.evaluation import Metric
from trainer.metrics.intervals import cluster_bootstrap
from trainer.metrics.verification import verification_lead, verification_metrics, verification_pairs


def identity_metrics(
    embeddings_NE: np.ndarray, cohort: Cohort, *, seed: int, num_resamples: int, prefix: str = ""
) -> dict[str, Metric]:
    """`retrieval_at_1`, `verification_auc` and `verification_eer`, with intervals over people.

    Args:
        embeddings_NE: one vector a scan, in the cohort's order.
        cohort: scans of two people or more, somebody with two visits.
        seed: decides the draws of strangers and of the bootstrap.
        num_resamples: number of bootstrap resamples.
        prefix: goes in front of each name.
    """
    hits = same_subject_hits(embeddings_NE, cohort.subject_ids, cohort.days_N)
    interval = cluster_bootstrap(
        lambda rows: float(hits.hit_Q[rows].mean()),
        np.array(cohort.groups)[hits.row_Q],
        seed=seed,
        num_resamples=num_resamples,
    )
    retrieval = Metric.from_interval(interval, num=len(hits.row_Q), chance=hits.summary().chance)
    pairs = verification_pairs(cohort.subject_ids, cohort.groups, cohort.days_N, seed=seed)
    verification = verification_metrics(embeddings_NE, pairs, seed=seed, num_resamples=num_resamples)
    return {f"{prefix}{name}": metric for name, metric in {"retrieval_at_1": retrieval, **verification}.items()}


def identity_leads(
    model_NE: np.ndarray, control_NE: np.ndarray, cohort: Cohort, *, seed: int, num_resamples: int
) -> dict[str, Metric]:
    """Retrieval and area under the ROC curve of one embedding minus those of another, over the same drawn people.

    Args:
        model_NE: one embedding of the scans.
        control_NE: the other.
        cohort: as for `identity_metrics`.
        seed: decides the draws of strangers and of the bootstrap.
        num_resamples: number of bootstrap resamples.
    """
    model, control = (same_subject_hits(one, cohort.subject_ids, cohort.days_N) for one in (model_NE, control_NE))
    more_Q = model.hit_Q - control.hit_Q
    interval = cluster_bootstrap(
        lambda rows: float(more_Q[rows].mean()),
        np.array(cohort.groups)[model.row_Q],
        seed=seed,
        num_resamples=num_resamples,
    )
    pairs = verification_pairs(cohort.subject_ids, cohort.groups, cohort.days_N, seed=seed)
    return {
        "retrieval_at_1": Metric.from_interval(interval, num=len(more_Q), chance=0.0),
        "verification_auc": verification_lead(model_NE, control_NE, pairs, seed=seed, num_resamples=num_resamples),
    }
