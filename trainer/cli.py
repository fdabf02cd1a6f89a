"""The verbs plan, train, evaluate, cross-validate and export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from preprocess.console import EXIT_DONE, Assignments, JsonFlag, emit, progress

if TYPE_CHECKING:
    from trainer.fit.supply import SupplyOptions


def train(
    recipe: str,
    *,
    store: str,
    run: str,
    settings: Assignments = (),
    cache: Path | None = None,
    cache_gb: float = 20.0,
    budget_gb: float | None = None,
    json: JsonFlag = False,
) -> int:
    """Train a recipe on a store; checkpoints, and resumes by itself when the run exists.

    Several processes: torchrun --nproc-per-node 2 -m -- interscan train RECIPE --store STORE --run RUN

    Args:
        recipe: name of a recipe that comes with interscan (docs/methods/README.md lists them), or a .toml file.
        store: the store's path or URL.
        run: folder of the run, path or URL; the same folder again goes on where it stopped.
        settings: one recipe value, for example --set optim.epochs=5; may be repeated.
        cache: folder on a local disk for what was read from the bucket; may be shared with other runs.
        cache_gb: most that it may hold, in GB.
        budget_gb: memory for volumes read ahead, in GB, and as much again for a cohort that fits; a quarter of what is
            available when not given.
        json: print the result as one JSON object on stdout.
    """
    from trainer.recipe import load_recipe

    # Before torch is loaded, so that a wrong setting is answered at once.
    chosen = load_recipe(recipe, settings)

    from preprocess.storage import Location
    from preprocess.store import Store
    from trainer.fit.distributed import is_first_process
    from trainer.fit.train import train_run

    location = Location(run)
    supply = _supply(cache, cache_gb, budget_gb)
    if not is_first_process():
        train_run(chosen, Store.open(store), location, progress=lambda *_: None, supply=supply)
        return EXIT_DONE
    with progress("train") as advance:
        result = train_run(chosen, Store.open(store), location, progress=advance, supply=supply)
    metrics = ", ".join(
        f"{name} {value:.3f}" for name, value in result.last_epoch.items() if name not in ("epoch", "step", "phase")
    )
    text = f"{location.uri}: {result.steps} steps, {result.volumes_per_s:.0f} volumes/s; last epoch: {metrics}"
    emit({"run": location.uri, **result.to_dict()}, text, as_json=json)
    return EXIT_DONE


def evaluate(run: str, *, store: str | None = None, json: JsonFlag = False) -> int:
    """Measure a finished run on its held-out subjects and write report.html.

    Args:
        run: the run's folder, path or URL; the report goes into RUN/evaluation.
        store: where the store is now, if it was moved since training.
        json: print the result as one JSON object on stdout.
    """
    from preprocess.storage import Location
    from trainer.evaluate.headline import headline
    from trainer.evaluate.run import REPORT_NAME, evaluate_run
    from trainer.fit.run import Run
    from trainer.report.verdict import judge

    location = Location(run)
    evaluation = evaluate_run(Run.open(location), store_uri=store)
    verdict = judge(evaluation)
    report = f"{location.uri}/{REPORT_NAME}"
    text = "\n".join([verdict.headline, *verdict.details, f"report: {report}"])
    result = {"verdict": verdict.headline, "standing": verdict.standing, "report": report}
    emit({**result, **headline(evaluation), **evaluation.model_dump(mode="json")}, text, as_json=json)
    return EXIT_DONE


def cross_validate(
    recipe: str,
    *,
    store: str,
    out: str,
    folds: int = 10,
    repeats: int = 1,
    settings: Assignments = (),
    keep_runs: Annotated[bool, Parameter(negative="")] = False,
    cache: Path | None = None,
    cache_gb: float = 20.0,
    budget_gb: float | None = None,
    json: JsonFlag = False,
) -> int:
    """Train and measure a recipe on folds of subjects; every subject with a score is tested once a repeat.

    All that is fitted or chosen is so inside the fold. The recipe's seed decides the folds, so two recipes with one
    seed are tested on the same folds; split.validation is a fraction of a fold's training subjects, and split.test is
    not used.

    Args:
        recipe: name of a recipe that comes with interscan (docs/methods/README.md lists them), or a .toml file.
        store: the store's path or URL.
        out: folder of the cross-validation, path or URL; the same folder again goes on where it stopped.
        folds: parts of the subjects, each tested once a repeat.
        repeats: how many times the subjects are divided anew; more than before goes on from there.
        settings: one recipe value, for example --set optim.epochs=5; may be repeated.
        keep_runs: keep checkpoints and model of each fold after it was measured.
        cache: folder on a local disk for what was read from the bucket; may be shared with other runs.
        cache_gb: most that it may hold, in GB.
        budget_gb: memory for volumes read ahead, in GB, and as much again for a cohort that fits; a quarter of what is
            available when not given.
        json: print the result as one JSON object on stdout.
    """
    from trainer.recipe import load_recipe

    # Before torch is loaded, so that a wrong setting is answered at once.
    chosen = load_recipe(recipe, settings)

    from preprocess.storage import Location
    from preprocess.store import Store
    from trainer.evaluate.cross_validation import SUMMARY_NAME
    from trainer.evaluate.cross_validation import cross_validate as follow_folds

    location = Location(out)
    with progress("folds") as advance:
        found = follow_folds(
            chosen,
            Store.open(store),
            location,
            num_folds=folds,
            num_repeats=repeats,
            progress=advance,
            supply=_supply(cache, cache_gb, budget_gb),
            keep_runs=keep_runs,
        )
    summary = f"{location.uri}/{SUMMARY_NAME}"
    emit({"summary": summary, **found.to_dict()}, f"{found.table()}\nsummary: {summary}", as_json=json)
    return EXIT_DONE


def export(
    run: str,
    artefact: str,
    *,
    name: str | None = None,
    version: str = "1",
    store: str | None = None,
    json: JsonFlag = False,
) -> int:
    """Export an evaluated run: TorchScript, torch.export programs and references.

    A run of task progression or severity gives an artefact of that kind. Every other run, and one of progression
    without a head (no scores, or too few), gives one of kind embedding, for `embed` and POST /v1/embeddings.

    Args:
        run: the run's folder, path or URL.
        artefact: new folder for the artefact, path or URL.
        name: the model's name; the recipe's name when not given.
        version: the model's version.
        store: where the store is now, if it was moved since training.
        json: print the manifest as one JSON object on stdout.
    """
    from preprocess.storage import Location
    from trainer.export.artefact import export_run
    from trainer.export.guarantees import guarantee_lines
    from trainer.fit.run import Run

    location = Location(artefact)
    manifest = export_run(Run.open(Location(run)), location, name=name, version=version, store_uri=store)
    parity = f"programs agree within {manifest.tolerance:g}"
    text = f"{location.uri}: {manifest.name} {manifest.version}, {len(manifest.files)} files, {parity}"
    text = "\n".join([text, *guarantee_lines(manifest.measured)])
    emit({"artefact": location.uri, **manifest.model_dump(mode="json")}, text, as_json=json)
    return EXIT_DONE


def plan(
    store: str,
    recipe: str,
    *,
    gpu: str = "cpu",
    price_table: str | None = None,
    hours_limit: float | None = None,
    settings: Assignments = (),
    json: JsonFlag = False,
) -> int:
    """Predict utilisation, hours, bytes, memory and cost of a run from metadata and 8 rows, before any money is spent.

    Args:
        store: the store's path or URL.
        recipe: name of a recipe that comes with interscan (docs/methods/README.md lists them), or a .toml file.
        gpu: device to train on: cpu, t4, v100, l4, a100, a100-80gb, h100, or one of the price table.
        price_table: TOML file laid over the table that comes with interscan: devices, prices, network, assumptions.
        hours_limit: most hours the run may take; exit code 2 if it may take more, or does not fit into memory.
        settings: one recipe value, for example --set data.in_flight=128; may be repeated.
        json: print the result as one JSON object on stdout.
    """
    from trainer.plan.hardware import load_hardware
    from trainer.recipe import load_recipe

    # Before torch is loaded and the store is opened, so that a wrong setting is answered at once.
    hardware = load_hardware(price_table)
    hardware.device(gpu)
    chosen = load_recipe(recipe, settings)

    from preprocess.errors import UsageError
    from preprocess.store import Store
    from trainer.plan.predict import predict_run
    from trainer.plan.report import plan_text

    prediction = predict_run(chosen, Store.open(store), hardware, gpu)
    emit(prediction.to_dict(hours_limit), plan_text(prediction, hours_limit), as_json=json)
    refusal = prediction.refusal(hours_limit)
    if refusal is not None:
        raise UsageError(refusal)
    return EXIT_DONE


def _supply(cache: Path | None, cache_gb: float, budget_gb: float | None) -> "SupplyOptions":
    from trainer.fit.supply import SupplyOptions

    return SupplyOptions(
        cache_folder=cache,
        cache_bytes=round(cache_gb * 1e9),
        budget_bytes=None if budget_gb is None else round(budget_gb * 1e9),
    )
