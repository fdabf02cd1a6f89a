"""What benchmarks/behaviour.py runs: the roads from raw scans to answers, tiny, as command lines and files only."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.behaviour_inputs import (
    copy,
    damage_artefacts,
    damage_runs,
    damage_store,
    write_broken,
    write_folder,
    write_recipes,
    write_table,
)


@dataclass(frozen=True)
class Step:
    """One command, run in the work folder.

    Attributes:
        name: unique within its road.
        arguments: of `interscan`; paths are relative to the work folder.
        prepare: writes or damages files before; what it does is no behaviour of the program.
        interrupt_at: a file; when it exists, the program gets a signal to stop. How far it came is a matter of chance.
        resumes: goes on from there, so that progress and the names of events are a matter of chance too.
        is_measured: stdout holds measured numbers; its digits are masked.
        serves: answers over HTTP until every request was sent.
        is_cold: starts Python anew. Nothing that trains may, since torch would begin at other random numbers.
    """

    name: str
    arguments: tuple[str, ...]
    prepare: Callable[[Path], None] | None = None
    interrupt_at: str = ""
    resumes: bool = False
    is_measured: bool = False
    serves: bool = False
    is_cold: bool = False


@dataclass(frozen=True)
class Road:
    """Steps that belong together.

    Attributes:
        needs: names of roads that must have run before.
    """

    name: str
    steps: tuple[Step, ...]
    needs: tuple[str, ...] = ()


def values(*assignments: str) -> tuple[str, ...]:
    """`--set` before each."""
    return tuple(part for one in assignments for part in ("--set", one))


def step(name: str, command: str, *more: str, **how: object) -> Step:
    """A step from a command in words; what holds spaces comes after it."""
    return Step(name, (*command.split(), *more), **how)  # type: ignore[arg-type]


HEADS = values("grid=[24,24,24]", "spacing_mm=8", "quality.max_spacing_mm=9")
CLIPS = ("--modality", "LUS", *values("kinds.LUS=clip", "clip.frames=8", "clip.size=[32,32]"))
PICTURES = ("--modality", "fundus", *values("kinds.fundus=image", "image.size=[32,32]", "image.channels=3"))
MODALITIES = ("SC", "FC", "radiomics", "clinical")
MATRICES = (
    *(part for name in (*MODALITIES, "T2") for part in ("--modality", name)),
    *values(*(f"kinds.{name}=array" for name in MODALITIES), "grid=[32,32,32]", "spacing_mm=6"),
)
PARTS = values("split.validation=0.2", "split.test=0.3")
SHORT = values("encoder.embedding_width=16", "optim.epochs=2")
TINY = (*values("split.validation=0.2", "split.test=0.2"), *SHORT)
"""Four people are held out: too few for intervals, which take most of the time of an evaluation."""
WIDE = (*PARTS, *SHORT)
MANY = (*values("split.validation=0.12", "split.test=0.12"), *SHORT)
"""Fourteen people train: ten are needed for members that calibrate each other."""
TWO_PHASES = (*PARTS, *values("encoder.embedding_width=16", "phase.0.epochs=1", "phase.1.epochs=1"))
FOUR = (*PARTS, *values(f"data.modalities={json.dumps(MODALITIES)}", "optim.epochs=2"))
FIRST, SECOND = (f"raw/brain/sub-001/ses-0{n}/anat/sub-001_ses-0{n}_T1w.nii.gz" for n in (1, 2))


VERBS = (
    *("synth", "preprocess", "verify", "forget", "plan", "train", "evaluate"),
    *("cross-validate", "export", "card", "embed", "predict", "serve", "bench", "demo"),
)
HELP = (
    step("interscan", "--help", is_cold=True),
    step("version", "--version", is_cold=True),
    *(step(verb, f"{verb} --help", is_cold=True) for verb in VERBS),
)
SYNTH = (
    step("brain", "synth brain raw/brain --subjects 18 --spacing-mm 5 --workers 1"),
    step("brain again", "synth brain raw/brain --subjects 18 --spacing-mm 5 --workers 1 --json"),
    step("brain otherwise", "synth brain raw/brain --subjects 19 --spacing-mm 5 --workers 1"),
    step(
        "ageing",
        "synth brain raw/ageing --ageing --subjects 6 --visits 2 --seed 1 --spacing-mm 6 --workers 1 --json",
        is_cold=True,
    ),
    step("lung", "synth lung raw/lung --subjects 10 --visits 2 --size-px 32 --frames 10 --json"),
    step("severity", "synth severity raw/severity --subjects 30 --size-px 48 --balanced --json"),
    step("connectome", "synth connectome raw/connectome --subjects 30 --missing 0.2 --json"),
)
PREPROCESS = (
    step("brain planned", "preprocess raw/brain stores/brain --dry-run --json --workers 0", *HEADS, is_cold=True),
    step("brain planned in words", "preprocess raw/brain stores/brain --dry-run --workers 0", *HEADS),
    step("brain", "preprocess raw/brain stores/brain --json --workers 0", *HEADS),
    step("brain again", "preprocess raw/brain stores/brain --workers 0", *HEADS),
    step("brain otherwise", "preprocess raw/brain stores/brain --workers 0", *HEADS, *values("spacing_mm=7")),
    step("brain verified", "verify stores/brain --json", is_cold=True),
    step("recipe in a file", "preprocess raw/ageing stores/ageing --recipe volumes.toml --workers 0",
         prepare=write_recipes),
    step("first shard", "preprocess raw/ageing stores/shards --shard 0/2 --workers 0 --json", *HEADS),
    step("too early", "preprocess raw/ageing stores/shards --commit --workers 0", *HEADS),
    step("second shard", "preprocess raw/ageing stores/shards --shard 1/2 --workers 0", *HEADS),
    step("shards committed", "preprocess raw/ageing stores/shards --commit --workers 0 --json", *HEADS, is_cold=True),
    step("shards verified", "verify stores/shards"),
    step("broken", "preprocess raw/broken stores/broken --workers 0 --json", *HEADS, prepare=write_broken),
    step("broken in words", "preprocess raw/broken stores/broken-too --workers 0 --accept-left-out", *HEADS),
    step("broken verified", "verify stores/broken --json"),
    step("folder", "preprocess raw/folder stores/folder --workers 0 --json", *HEADS, prepare=write_folder),
    step("folder with a second cohort", "preprocess raw/ageing stores/folder --workers 0 --cohort old --json", *HEADS),
    step("table", "preprocess raw/table.csv stores/table --workers 0 --json --not-missing mmse=-4", *HEADS,
         prepare=write_table),
    step("lung", "preprocess raw/lung/scans.csv stores/lung --workers 0 --json", *CLIPS),
    step("severity", "preprocess raw/severity/scans.csv stores/severity --workers 0 --json", *PICTURES),
    step("connectome", "preprocess raw/connectome/scans.csv stores/connectome --workers 0 --json", *MATRICES),
    step("lung verified", "verify stores/lung --json"),
    step("severity verified", "verify stores/severity --json"),
    step("connectome verified", "verify stores/connectome --json"),
    step("damaged verified", "verify stores/damaged --json", prepare=damage_store),
    step("damaged verified in words", "verify stores/damaged"),
)  # fmt: skip
PLAN = (
    step("demo", "plan stores/brain demo --json"),
    step("demo in words", "plan stores/brain demo", is_measured=True, is_cold=True),
    step("simclr on a t4", "plan stores/brain simclr --gpu t4 --json"),
    step("chrono", "plan stores/brain chrono --json", *TINY),
    step("clinimcl-reference", "plan stores/brain clinimcl-reference --json", *TINY),
    step("learner-lus", "plan stores/lung learner-lus --json", *TINY),
    step("conpro", "plan stores/severity conpro --json", *TWO_PHASES),
    step("joint", "plan stores/connectome joint --json", *FOUR),
    step("too long", "plan stores/brain demo --hours-limit 0.000001", is_measured=True),
)


def method(
    recipe: str,
    store: str,
    settings: tuple[str, ...],
    *,
    of: str = "",
    more: tuple[str, ...] = (),
    exported: bool = False,
) -> Iterator[Step]:
    """Train, evaluate, export.

    Args:
        recipe: name of the run.
        store: name.
        settings: all `--set`.
        of: recipe that the run varies; the one of its name when not given.
        more: further arguments of `train`.
        exported: or refused, where there is no artefact of that kind.
    """
    train = f"train {of or recipe} --store stores/{store} --run runs/{recipe} --json"
    yield step(f"{recipe} trained", train, *settings, *more)
    # The demo is measured and exported by Python started anew.
    yield step(f"{recipe} evaluated", f"evaluate runs/{recipe} --json", is_cold=recipe == "demo")
    if exported:
        yield step(f"{recipe} exported", f"export runs/{recipe} artefacts/{recipe} --json", is_cold=recipe == "demo")


BRAIN = ("clinimcl", "mse", "simclr", "supcon", "rank", "chrono")
TRAIN = (
    *method("demo", "brain", MANY, exported=True),
    step("demo trained already", "train demo --store stores/brain --run runs/demo", *MANY, is_cold=True),
    *method("change", "brain", MANY),
    *(one for recipe in BRAIN for one in method(recipe, "brain", TINY)),
    *method("clinimcl-reference", "brain", TINY, exported=True),
    *method("learner-mri", "brain", TINY),
    *method("supremix", "brain", WIDE, exported=True),
    *method("learner-lus", "lung", TINY),
    step("learner-lus exported under a name", "export runs/learner-lus artefacts/clips --name clips --version 2"),
    *method("conpro", "severity", TWO_PHASES, exported=True),
    *method("conpro-reference", "severity", TWO_PHASES),
    *method("joint", "connectome", FOUR, exported=True),
    step("joint evaluated in words", "evaluate runs/joint", is_cold=True),
)
VARIANTS = (
    *method("chunked", "brain", (*TINY, *values("encoder.norm=group", "optim.cache_chunk=2",
                                                   "optim.clip_norm=1", "head.hidden=4")),
            of="demo", more=("--cache", "cache", "--cache-gb", "0.1")),
    *method("best", "brain", (*TINY, *values("checkpoint.best=retrieval_at_1", "checkpoint.keep=1",
                                            "data.subjects_per_epoch=0.5")), of="clinimcl"),
    *method("contrastive", "brain", (*TINY, *values("objective.0.variant=contrastive", "head.threshold=tertiles")),
            of="mse"),
    *method("supremix-change", "brain", (*TINY, *values("task=progression", "outcome.name=mmse",
                                                       "outcome.higher_is_better=true", "outcome.threshold=2")),
            of="supremix"),
    *method("fusion", "connectome", (*FOUR, *values('objective=[{name="fusion_bce"}]')), of="joint"),
    *method("joint-volumes", "connectome", (*PARTS, *values("optim.epochs=1")), of="joint"),
    step("own recipe", "train own.toml --store stores/ageing --run runs/own"),
    step("own recipe evaluated", "evaluate runs/own"),
)  # fmt: skip
LONG = (*PARTS, *values("encoder.embedding_width=8", "optim.epochs=40"))
RESUME = (
    step("interrupted", "train clinimcl --store stores/brain --run runs/resumed", *LONG,
         interrupt_at="runs/resumed/checkpoints/latest.json"),
    step("resumed", "train clinimcl --store stores/brain --run runs/resumed --json", *LONG, resumes=True),
)  # fmt: skip
CROSS = (
    step("mse", "cross-validate mse --store stores/brain --out cross/mse --folds 2 --json", *TINY),
    step("mse again", "cross-validate mse --store stores/brain --out cross/mse --folds 2", *TINY, is_cold=True),
    step("mse with other folds", "cross-validate mse --store stores/brain --out cross/mse --folds 3", *TINY),
    step("supremix", "cross-validate supremix --store stores/brain --out cross/supremix --folds 2", *TINY),
    step("conpro", "cross-validate conpro --store stores/severity --out cross/conpro --folds 2", *TWO_PHASES),
    step("joint", "cross-validate joint --store stores/connectome --out cross/joint --folds 2 --keep-runs", *FOUR),
)
ANSWERS = (
    step("cohort embedded", "embed artefacts/demo stores/brain answers/demo.parquet --json", is_cold=True),
    step("cohort embedded in fours", "embed artefacts/demo stores/brain answers/fours.parquet --batch-size 4"),
    step("severity embedded", "embed artefacts/conpro stores/severity answers/conpro.parquet --json"),
    step("other preprocessing", "embed artefacts/demo stores/ageing answers/none.parquet"),
    step("card", "card artefacts/demo --json", is_cold=True),
    step("pair", f"predict artefacts/demo {FIRST} {SECOND} --gap-days 365 --json", is_cold=True),
    step("pair in words", f"predict artefacts/demo {FIRST} {SECOND}"),
    step("same scan twice", f"predict artefacts/demo {FIRST} {FIRST} --json"),
    step("pair of a severity model", f"predict artefacts/conpro {FIRST} {SECOND}"),
    step("no scan", f"predict artefacts/demo {FIRST} volumes.toml"),
    step("scan that is absent", f"predict artefacts/demo {FIRST} raw/none.nii.gz"),
    step("cut scan", f"predict artefacts/demo {FIRST} raw/cut.nii.gz",
         prepare=lambda work: (work / "raw/cut.nii.gz").write_bytes((work / FIRST).read_bytes()[:2000])),
    step("damaged model", f"predict artefacts/damaged-model {FIRST} {SECOND}", prepare=damage_artefacts),
    step("damaged manifest", f"predict artefacts/damaged-manifest {FIRST} {SECOND}"),
    step("exported again", "export runs/demo artefacts/demo"),
    step("served", "serve artefacts/demo artefacts/clinimcl-reference --port 0", serves=True, is_cold=True),
)  # fmt: skip
COHORT = ("--cohort", "Synthetic longitudinal brain cohort")
FORGET = (
    step("unknown person", "forget stores/forgetful --subject sub-404", prepare=partial(copy, "stores/brain",
                                                                                     "stores/forgetful")),
    step("trained", "train mse --store stores/forgetful --run runs/forgetful --cache forgetful-cache", *TINY),
    step("without its cohort", "forget stores/forgetful --subject sub-003"),
    step("forgotten", "forget stores/forgetful --subject sub-003 --cache forgetful-cache --json", *COHORT,
         is_cold=True),
    step("forgotten already", "forget stores/forgetful --subject sub-003", *COHORT),
    step("verified", "verify stores/forgetful --json"),
    step("run refused", "evaluate runs/forgetful"),
    step("training refused", "train mse --store stores/forgetful --run runs/forgetful", *TINY),
    step("artefact refused", "embed artefacts/demo stores/forgetful answers/forgetful.parquet"),
    step("not taken in again", "preprocess raw/brain stores/forgetful --workers 0 --json", *HEADS),
)  # fmt: skip
HEIGHT = values("outcome.name=height", "outcome.higher_is_better=true", "outcome.threshold=1", "outcome.source=ours")
ERRORS = (
    step("no such verb", "trane demo", is_cold=True),
    step("no such option", "verify stores/brain --depth 3"),
    step("no argument", "train demo"),
    step("no such cohort", "synth heart raw/heart"),
    step("option of another cohort", "synth brain raw/other --frames 3"),
    step("no such source", "preprocess raw/none stores/none"),
    step("source without scans", "preprocess stores/brain stores/none"),
    step("wrong recipe value", "preprocess raw/brain stores/none", *values("grid=[0,24,24]")),
    step("wrong recipe key", "preprocess raw/brain stores/none", *values("gird=[24,24,24]")),
    step("wrong recipe file", "preprocess raw/brain stores/none --recipe wrong.toml"),
    step("wrong shard", "preprocess raw/brain stores/none --shard 2/2"),
    step("no such store", "verify stores/none"),
    step("no store to train on", "train demo --store stores/none --run runs/none"),
    step("no such recipe", "train demmo --store stores/brain --run runs/none"),
    step("wrong key", "train demo --store stores/brain --run runs/none", *values("optim.epoch=3")),
    step("wrong value", "train demo --store stores/brain --run runs/none", *values("optim.epochs=none")),
    step("value out of range", "train demo --store stores/brain --run runs/none", *values("split.test=1.5")),
    step("no such objective", "train demo --store stores/brain --run runs/none", *values("objective.0.name=lerner")),
    step("no such encoder", "train demo --store stores/brain --run runs/none", *values("encoder.name=fats")),
    step("no such phase", "train demo --store stores/brain --run runs/none", *values("phase.3.epochs=1")),
    step("contradiction", "train chrono --store stores/brain --run runs/none", *values("data.sampling=pairs")),
    step("no such modality", "train demo --store stores/brain --run runs/none", *values("data.modality=T2w")),
    step("no such outcome", "train mse --store stores/brain --run runs/none", *HEIGHT),
    step("wrong kind of store", "train joint --store stores/brain --run runs/none"),
    step("batch too large to pair", "train demo --store stores/brain --run runs/none", *values("data.batch_size=1")),
    step("another recipe", "train mse --store stores/brain --run runs/demo", *TINY),
    step("another store", "train demo --store stores/shards --run runs/demo", *WIDE),
    step("missing volume", "train demo --store stores/lacking --run runs/none", *TINY),
    step("no such run", "evaluate runs/nowhere"),
    step("damaged record", "evaluate runs/damaged-record", prepare=damage_runs),
    step("damaged model", "evaluate runs/damaged-model"),
    step("damaged checkpoint", "train demo --store stores/brain --run runs/damaged-checkpoint --json", *WIDE),
    step("not evaluated", "export runs/damaged-checkpoint artefacts/none"),
    step("forgotten person exported", "export runs/forgetful artefacts/none"),
    step("no such artefact", "embed artefacts/none stores/brain answers/none.parquet"),
    step("nothing to serve", "serve --port 0"),
    step("no such device", "plan stores/brain demo --gpu abacus"),
    step("too many folds", "cross-validate mse --store stores/brain --out cross/none --folds 50", *TINY),
    step("no such part", "bench breakfast", is_cold=True),
)
ROADS = (
    Road("help", HELP),
    Road("synth", SYNTH),
    Road("preprocess", PREPROCESS, needs=("synth",)),
    Road("plan", PLAN, needs=("preprocess",)),
    Road("train", TRAIN, needs=("preprocess",)),
    Road("variants", VARIANTS, needs=("preprocess",)),
    Road("resume", RESUME, needs=("preprocess",)),
    Road("cross-validate", CROSS, needs=("preprocess",)),
    Road("answers", ANSWERS, needs=("train",)),
    Road("forget", FORGET, needs=("train",)),
    Road("errors", ERRORS, needs=("train", "forget")),
)
