"""What models of synthetic cohorts see in the few real images there are: who it is, how old, whether a lung is ill.

python -m benchmarks.real_images [--quick] [--seeds 1] [--data FOLDER] [--cache FOLDER] [--out FILE]

Every method that fits trains on phantoms and then embeds real images it never saw: eight heads of six people, ten lung
clips. An untrained encoder and a baseline without any model stand beside it. Four queries, four ages and ten clips
decide little, so every metric carries its exact p-value, and the table says `too few to tell` unless every seed passes.
Nothing corrects for the number of models. About ten minutes a seed on one idle core; with --cache, a run that was cut
off goes on where it stopped. `--quick` shows that it runs, no more.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from benchmarks.method_cases import AGE, MMSE, VISITS
from benchmarks.method_runs import Arm
from benchmarks.real_cohorts import (
    RealImages,
    clip_recipe,
    head_recipe,
    open_clips,
    open_heads,
    open_lungs,
    open_phantoms,
)
from benchmarks.real_embeddings import Embedded, embed_arm
from benchmarks.real_scores import age_scores, clip_scores, identity_scores, verdict
from benchmarks.running import finish, machine
from preprocess.distances import distances_from_mean
from preprocess.store import Store
from tests.support.images import REAL_DATA
from trainer.evaluate.probes import ridge_probe
from trainer.metrics.embedding_space import same_subject_retrieval

UNTRAINED = "untrained"
NO_MODEL = "no model"
HEADS, CLIPS = "heads", "clips"
NORMAL_SHARE = 0.25
"""Training clips of the best S/F whose mean is the normal lung."""
_SPLIT = ("split.validation=0.15", "split.test=0.3")
_VISITS = tuple(arm for arm in VISITS if arm.recipe != "mse" or arm.name == "learner mse")
"""LEARNER's other variants are for the score, not for who it is."""
_VOLUMES = (*_SPLIT, "augment.shift_voxels=1", "optim.epochs=20")
"""Grid of 64^3 at 3 mm: one voxel is what two are at 2 mm."""
# Eight clips a batch: 60 patients make two or three batches of 16, and few epochs are to be many steps.
_FRAMES = (*_SPLIT, "data.modality=LUS", "data.batch_size=8", "encoder.name=tsm-resnet18", "augment.shift_voxels=2",
           "optim.epochs=6", "outcome.name=sf_ratio", "outcome.higher_is_better=true",
           "outcome.threshold=20.0")  # fmt: skip


@dataclass(frozen=True)
class Question:
    """One question put to all models.

    Attributes:
        name: key in the result.
        asks: in words, with what the answer does not show.
        images: `heads` or `clips`.
        arms: what is trained.
        settings: of all arms.
        measure: metrics of a model.
        baseline: metrics of what needs no model; None where there is no such thing.
        metric, p, chance: keys that the verdict is made of; chance may be a number.
        columns: keys and headings of the table.
    """

    name: str
    asks: str
    images: str
    arms: tuple[Arm, ...]
    settings: tuple[str, ...]
    measure: Callable[[Embedded, RealImages], dict[str, float]]
    baseline: Callable[[RealImages], dict[str, float]] | None
    metric: str
    p: str
    chance: str | float
    columns: tuple[tuple[str, str], ...]


def identity(one: Embedded, real: RealImages) -> dict[str, float]:
    """Second visits of real people, and of held-out phantoms beside them."""
    held = one.cohorts["test"]
    phantoms = same_subject_retrieval(one.embeddings["test"], held.subject_ids, held.days_N)
    found = identity_scores(one.real_NE, real.subject_ids, real.days_N, real.sources_N)
    return found | {"synthetic_retrieval_at_1": phantoms.value, "seconds": one.seconds}


def identity_of_voxels(real: RealImages) -> dict[str, float]:
    """The same by Pearson's correlation of the volumes as stored."""
    voxels_NV = real.pixels().reshape(len(real.subject_ids), -1)
    voxels_NV = voxels_NV - voxels_NV.mean(axis=1, keepdims=True)
    return identity_scores(voxels_NV, real.subject_ids, real.days_N, real.sources_N)


def age(one: Embedded, real: RealImages) -> dict[str, float]:
    """Ages by a ridge probe fitted to phantoms, of the heads that are not of the longitudinal set."""
    probe = ridge_probe(one.examples("train"), one.examples("validation"))
    heads = real.sources_N == 1
    constant = float(np.median(one.cohorts["train"].scores_N))
    held = one.examples("test")
    found = age_scores(probe.predict(one.real_NE[heads]), real.scores_N[heads], constant)
    ages_N = one.cohorts["test"].scores_N
    error = float(np.abs(probe.predict(held.features_NF) - ages_N).mean())
    guess = float(np.abs(constant - ages_N).mean())
    return found | {"synthetic_mae": error, "synthetic_mae_constant": guess, "seconds": one.seconds}


def lungs(one: Embedded, real: RealImages) -> dict[str, float]:
    """Regular against ill clips by the predicted S/F and by the distance from normal synthetic clips.

    S/F is read by the model's own head, and by a ridge probe of the synthetic clips where it has none.
    """
    training, held = one.examples("train"), one.examples("test")
    real_N, test_N = one.real_predicted_N, one.test_predicted_N
    if real_N is None or test_N is None:
        probe = ridge_probe(training, one.examples("validation"))
        real_N, test_N = probe.predict(one.real_NE), probe.predict(held.features_NF)
    sf_N = one.cohorts["train"].scores_N
    normal_KE = training.features_NF[sf_N >= np.quantile(sf_N, 1 - NORMAL_SHARE)]
    far_N = distances_from_mean(held.features_NF, normal_KE)
    found = clip_scores(
        one.real_NE, real.labels, {"sf": -real_N, "distance": distances_from_mean(one.real_NE, normal_KE)}
    )
    return found | {
        "synthetic_rho_sf": float(stats.spearmanr(test_N, held.labels_N).statistic),
        "synthetic_rho_distance": float(stats.spearmanr(-far_N, held.labels_N).statistic),
        "seconds": one.seconds,
    }


def lungs_of_pixels(real: RealImages) -> dict[str, float]:
    """The same by the mean grey of the lower half, which B-lines brighten, and by correlation of clips."""
    clips_NTCHW = real.pixels()
    lower_N = clips_NTCHW[..., clips_NTCHW.shape[-2] // 2 :, :].mean(axis=(1, 2, 3, 4))
    pixels_NP = clips_NTCHW.reshape(len(clips_NTCHW), -1)
    return clip_scores(pixels_NP - pixels_NP.mean(axis=1, keepdims=True), real.labels, {"sf": lower_N})


QUESTIONS = (
    Question(
        "identity",
        "Is the second visit of a person the nearest of 7 other heads? 8 T1w scans of 6 people, 4 queries, chance 1/7; "
        "the 4 queries are one data set and the other heads another, so the verdict's p exchanges people within the "
        "first only, where no result of 4 scans gives less than 0.33",
        HEADS, _VISITS, (*_VOLUMES, *MMSE), identity, identity_of_voxels,
        "retrieval_at_1", "p_own_source", "chance",
        (("retrieval_at_1", "retrieval@1"), ("p", "p, all 8"), ("p_own_source", "p, own data set"),
         ("within_between", "within / between"), ("within_between_own_source", "own data set"),
         ("nearest_of_own_source", "nearest is of own data set"),
         ("synthetic_retrieval_at_1", "held-out phantoms")),
    ),
    Question(
        "age",
        "How old are 4 healthy heads of 24 to 39 years, by probes fitted to phantoms of 60 years and more? Transfer "
        "from phantoms to people and out of the range of training at once; no result of 4 heads gives a p below 0.125",
        HEADS,
        (Arm("mse", "mse"), Arm("supcon", "supcon", ("objective.0.bin_width=5",)), Arm("supremix", "supremix"),
         Arm("rank", "rank")),
        (*_VOLUMES, *AGE), age, None,
        "gain", "p", 0.0,
        (("mae", "MAE, years"), ("mae_constant", "of the training median"),
         ("mae_own_median", "of the four's own median"),
         ("p", "p against the median"), ("youngest_predicted", "youngest predicted"),
         ("oldest_predicted", "oldest predicted"), ("synthetic_mae", "MAE, held-out phantoms"),
         ("synthetic_mae_constant", "of the training median there")),
    ),
    Question(
        "lungs",
        "Are 4 clips of ill lungs told from 6 of regular ones, and does the nearest clip have a clip's label (Reg 6, "
        "Vir 2, Pneu 1, Cov 1)? Guessing Reg for all is right for 6 of 10; sources and machines go with the label",
        CLIPS,
        (*(Arm(f"learner {variant}", "learner-lus", (f"objective.0.variant={variant}",))
           for variant in ("mse", "weighted", "regressed")), Arm("simclr", "simclr")),
        _FRAMES, lungs, lungs_of_pixels,
        "auc_sf", "p_auc_sf", 0.5,
        (("auc_sf", "AUC, S/F"), ("p_auc_sf", "p"), ("auc_distance", "AUC, distance from normal"),
         ("p_auc_distance", "p"), ("nearest_accuracy", "nearest has the label"), ("nearest_chance", "chance"),
         ("p_nearest", "p"), ("synthetic_rho_sf", "rho with S/F, held-out synthetic")),
    ),
)  # fmt: skip


def main() -> None:
    """See the module."""
    options = _options()
    before = machine(torch.__version__)
    if not options.data.is_dir():
        sys.exit(f"--data {options.data}: no such folder; give the folder that holds mri_longitudinal and lung_clips")
    result: dict[str, Any] = {}
    tables: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.cache or Path(temporary)) / ("real-images-quick" if options.quick else "real-images")
        heads = open_heads(options.data, folder / "real", head_recipe(quick=options.quick))
        clips = open_clips(options.data, folder / "real", clip_recipe(quick=options.quick))
        cohorts = {
            HEADS: (heads, open_phantoms(folder, quick=options.quick)),
            CLIPS: (clips, open_lungs(folder, quick=options.quick)),
        }
        for question in QUESTIONS:
            rows = ask(question, *cohorts[question.images], folder / "embeddings", options.seeds, quick=options.quick)
            result[question.name] = {"asks": question.asks, "models": rows}
            tables.append(table(question, rows))
    result["settings"] = {"seeds": options.seeds, "quick": options.quick}
    result["machine"] = before | {"load_1_min_after": machine("")["load_1_min"]}
    finish(result, "\n".join(tables), options.out)


def ask(
    question: Question, real: RealImages, store: Store, folder: Path, seeds: int, *, quick: bool
) -> dict[str, dict[str, Any]]:
    """Metrics by seed and the verdict of each model, of an untrained one and of none."""
    settings = (*question.settings, *(("optim.epochs=1",) if quick else ()))
    runs = [(arm.name, arm, True) for arm in question.arms] + [(UNTRAINED, question.arms[0], False)]
    by_model: dict[str, list[dict[str, float]]] = {}
    for name, arm, train in runs:
        for seed in range(seeds):
            one = embed_arm(arm, store, real, seed, settings, train=train, kept_in=folder)
            if not train:  # the head of an untrained model says nothing, and it has none
                assert one.real_predicted_N is None
            by_model.setdefault(name, []).append(question.measure(one, real))
            sys.stderr.write(f"{question.name} {name} seed {seed}: {one.seconds:.0f} s\n")
    if question.baseline is not None:
        by_model[NO_MODEL] = [question.baseline(real)]
    return {name: {"verdict": judged(question, found), "by_seed": found} for name, found in by_model.items()}


def judged(question: Question, by_seed: list[dict[str, float]]) -> str:
    """The verdict on one model."""
    chance = question.chance if isinstance(question.chance, float) else by_seed[0][question.chance]
    return verdict([one[question.metric] for one in by_seed], chance, [one[question.p] for one in by_seed])


def table(question: Question, rows: dict[str, dict[str, Any]]) -> str:
    """Mean and range over seeds, of p-values the largest; the verdict last."""
    lines = [
        f"### {question.name}\n\n{question.asks}.\n",
        "| model | " + " | ".join(heading for _, heading in question.columns) + " | |",
        "|---" * (len(question.columns) + 2) + "|",
    ]
    for name, row in rows.items():
        cells = [cell(key, [one[key] for one in row["by_seed"] if key in one]) for key, _ in question.columns]
        lines.append("| " + " | ".join([name, *cells, row["verdict"]]) + " |")
    return "\n".join(lines) + "\n"


def cell(key: str, values: list[float]) -> str:
    """One metric of all seeds: the largest p, else the mean with its range; empty where no seed has it."""
    if not values:
        return ""
    if key.startswith("p_") or key == "p":
        return f"{max(values):.2g}"
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{np.mean(values):.2f} ({low} to {high})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny cohorts and one epoch")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--data", type=Path, default=REAL_DATA, help="folder of the real images")
    parser.add_argument("--cache", type=Path, help="folder for cohorts and embeddings, which are then made only once")
    parser.add_argument("--out", type=Path, help="file for the JSON as well")
    return parser.parse_args()


if __name__ == "__main__":
    main()
