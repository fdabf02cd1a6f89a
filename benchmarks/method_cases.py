"""What is compared with what: cohorts, arms, metrics and baselines of benchmarks/methods.py, fixed before any run."""

from dataclasses import dataclass, field

from benchmarks.method_runs import Arm

MSE, CONTRASTIVE, WEIGHTED, REGRESSED = (
    Arm(f"learner {variant}", "mse", (f"objective.0.variant={variant}",))
    for variant in ("mse", "contrastive", "weighted", "regressed")
)
_UNTRAINED = ("optim.epochs=1", "optim.learning_rate=1e-12")
"""What random weights give by themselves: a floor above chance."""
VISITS = (
    MSE,
    CONTRASTIVE,
    WEIGHTED,
    REGRESSED,
    Arm("clinimcl", "clinimcl"),
    Arm("simclr", "simclr"),
    Arm("supcon", "supcon"),
    Arm("supremix", "supremix", ("task=progression", "objective.0.bin_width=3")),
    Arm("rank", "rank"),
    Arm("chrono", "chrono"),
    Arm("untrained", "mse", _UNTRAINED),
)
"""Everything that can use one cohort of heads with scores and visits."""
MMSE = (
    "outcome.name=mmse",
    "outcome.higher_is_better=true",
    "outcome.threshold=2.0",
)
AGE = ("outcome.name=age", "outcome.higher_is_better=false", "outcome.threshold=1.0")
GRADE = ("outcome.name=grade", "outcome.higher_is_better=false", "outcome.threshold=1.0", "task=severity")
BUDGETS = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Compared:
    """One metric that arms are compared by.

    Attributes:
        name: in tables and results.
        key: what `interscan evaluate` calls it; see `method_runs.numbers`.
        higher_is_better: direction.
        chance: level of guessing, where there is one for all arms.
        of_held_out: whether it scores held-out subjects, many of whom two seeds share.
    """

    name: str
    key: str
    higher_is_better: bool = True
    chance: float | None = None
    of_held_out: bool = True


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        name: key in the result.
        claim: of the papers.
        cohort: which store.
        arms: what is compared.
        baseline: name of the arm that the others are held against.
        metrics: by what.
        settings: recipe values of all arms.
        quick: settings on top that make a run that only shows that it runs.
    """

    name: str
    claim: str
    cohort: str
    arms: tuple[Arm, ...]
    baseline: str
    metrics: tuple[Compared, ...]
    settings: tuple[str, ...] = ()
    quick: tuple[str, ...] = field(default=("optim.epochs=1",))


_SMALL = ("augment.shift_voxels=1", "split.validation=0.15", "split.test=0.3")
"""Grid of 48^3 at 4 mm: one voxel is what two are at 2 mm."""
_SEVERITY_OPTIM = (
    "optim.name=adamw",
    "optim.learning_rate=5e-4",
    "optim.head_factor=1",
    "optim.weight_decay=1e-4",
    "optim.warmup_fraction=0",
    "optim.epochs=16",
    "data.batch_size=16",
)
_PUBLISHED_CONPRO = (
    "phase.0.epochs=8",
    "phase.1.epochs=8",
    "phase.1.objective.0.beta=1",
    "phase.1.objective.1.weight=1e-6",
)
_SHORT = ("phase.0.epochs=1", "phase.1.epochs=1")

CASES = (
    Case(
        "one_cohort",
        "LEARNER: MSE < + contrastive < + weighted in macro-F1 of change, and distance follows the score difference; "
        "ClinImCL: subjects separate and visits stay near; and every other objective on the same heads",
        "brain",
        VISITS,
        "learner mse",
        (
            Compared("macro_f1", "macro_f1"),
            Compared("score_mae", "probe_mae", higher_is_better=False),
            Compared("retrieval_at_1", "retrieval_at_1"),
            Compared("within_between", "within_between_ratio", higher_is_better=False, chance=1.0),
            Compared("stranger_rho", "stranger_correlation", chance=0.0),
            Compared("minutes", "minutes", higher_is_better=False, of_held_out=False),
        ),
        (*_SMALL, *MMSE, "optim.epochs=20"),
    ),
    *(
        Case(
            f"supremix_{target}_{round(100 * budget)}",
            f"SupReMix beats regression and plain supervised contrast: {target}, {round(100 * budget)} % of the labels",
            "brain",
            (
                Arm("mse", "mse"),
                Arm("supcon", "supcon", (f"objective.0.bin_width={bin_width}",)),
                Arm("supremix", "supremix"),
                Arm("supremix, tau 0.5", "supremix", ("objective.0.temperature=0.5",)),
                Arm("supremix without mixing", "supremix", ("objective.0.mix_positives=false",
                    "objective.0.mix_negatives=false", "objective.0.magnify=false")),
                Arm("rank", "rank"),
            ),
            "mse",
            (
                Compared("mae", "probe_mae", higher_is_better=False),
                Compared("mse", "probe_mse", higher_is_better=False),
            ),
            (*_SMALL, *outcome, "task=regression", "optim.epochs=20", f"split.train={budget}"),
        )
        for target, outcome, bin_width, budgets in (("mmse", MMSE, 3, BUDGETS), ("age", AGE, 5, BUDGETS[-1:]))
        for budget in budgets
    ),
    Case(
        "severity",
        "ConPrO beats SupCon-2, SupCon-n and SimCLR, and severity is ordered by the distance from normal",
        "severity",
        (
            Arm("conpro", "conpro", ("phase.0.epochs=1", "phase.1.epochs=15"), quick=_SHORT),
            Arm("conpro as published", "conpro", _PUBLISHED_CONPRO, quick=_SHORT),
            Arm("supcon-2", "supcon", ("objective.0.bin_width=0", "objective.0.normal=0")),
            Arm("supcon-n", "supcon", ("objective.0.bin_width=0",)),
            Arm("simclr", "simclr"),
            Arm("untrained", "simclr", _UNTRAINED),
        ),
        "supcon-n",
        (
            Compared("macro_f1", "severity_macro_f1"),
            Compared("maee", "severity_maee", higher_is_better=False),
            Compared("tau_b", "severity_tau_b", chance=0.0),
            Compared("tau_b_abnormal", "severity_tau_b_abnormal", chance=0.0),
            Compared("auc_abnormal", "severity_auc_abnormal", chance=0.5),
            Compared("minutes", "minutes", higher_is_better=False, of_held_out=False),
        ),
        (*GRADE, "data.modality=fundus", "encoder.name=resnet18", "augment.shift_voxels=8", *_SEVERITY_OPTIM),
    ),
    *(
        Case(
            f"joint_{name}",
            f"CMC + CSS beats each alone and plain concatenation; {what}",
            f"connectome-{name}",
            (
                Arm("cmc + css", "joint"),
                Arm("cmc", "joint", ('objective=[{name="cross_modality"}]',)),
                Arm("css", "joint", ('objective=[{name="cross_subject"}]',)),
                Arm("concatenation", "joint", ('objective=[{name="fusion_bce"}]',)),
                Arm("cmc + css, residual", "joint", ("encoder.residual=true",)),
                Arm("concatenation, residual", "joint", ('objective=[{name="fusion_bce"}]', "encoder.residual=true")),
            ),
            "concatenation",
            (
                Compared("auc", "class_auc", chance=0.5),
                Compared("balanced_accuracy", "class_balanced_accuracy", chance=0.5),
                Compared("minutes", "minutes", higher_is_better=False, of_held_out=False),
            ),
            # Without T2, whose 3D network takes fifty times as long as all the others together.
            ('data.modalities=["SC", "FC", "radiomics", "clinical"]', "split.test=0.3"),
        )
        for name, what in (("complete", "every modality there"), ("missing", "30 % of the subjects lack one"))
    ),
)  # fmt: skip
