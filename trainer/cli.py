"""The verbs train, evaluate and export."""

from preprocess.console import EXIT_DONE, Assignments, JsonFlag, emit, progress


def train(
    recipe: str,
    *,
    store: str,
    run: str,
    settings: Assignments = (),
    json: JsonFlag = False,
) -> int:
    """Train a recipe on a store; checkpoints, and resumes by itself when the run exists.

    Args:
        recipe: name of a recipe that comes with interscan (clinimcl, clinimcl-reference, demo), or a .toml file.
        store: the store's path or URL.
        run: folder of the run, path or URL; the same folder again goes on where it stopped.
        settings: one recipe value, for example --set optim.epochs=5; may be repeated.
        json: print the result as one JSON object on stdout.
    """
    from preprocess.storage import Location
    from preprocess.store import Store
    from trainer.fit.train import train_run
    from trainer.recipe import load_recipe

    chosen = load_recipe(recipe, settings)
    location = Location(run)
    with progress("train") as advance:
        result = train_run(chosen, Store.open(store), location, progress=advance)
    last = result["last_epoch"]
    figures = ", ".join(f"{name} {value:.3f}" for name, value in last.items() if name not in ("epoch", "step"))
    text = f"{location.uri}: {result['steps']} steps, {result['volumes_per_s']:.0f} volumes/s; last epoch: {figures}"
    emit({"run": location.uri, **result}, text, as_json=json)
    return EXIT_DONE


def evaluate(run: str, *, store: str | None = None, json: JsonFlag = False) -> int:
    """Measure a finished run on its held-out subjects and write report.html.

    Args:
        run: the run's folder, path or URL; the report goes into RUN/evaluation.
        store: where the store is now, if it was moved since training.
        json: print the result as one JSON object on stdout.
    """
    from preprocess.storage import Location
    from trainer.evaluate.run import REPORT_NAME, evaluate_run
    from trainer.evaluate.verdict import judge
    from trainer.fit.run import Run

    location = Location(run)
    evaluation = evaluate_run(Run.open(location), store_uri=store)
    verdict = judge(evaluation)
    report = f"{location.uri}/{REPORT_NAME}"
    text = "\n".join([verdict.headline, *verdict.details, f"report: {report}"])
    result = {"verdict": verdict.headline, "standing": verdict.standing, "report": report}
    emit({**result, **evaluation.model_dump(mode="json")}, text, as_json=json)
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
    """Export an evaluated run as an artefact: TorchScript, torch.export programs, references and manifest.

    Args:
        run: the run's folder, path or URL.
        artefact: new folder for the artefact, path or URL.
        name: of the model; the recipe's name when not given.
        version: of the model.
        store: where the store is now, if it was moved since training.
        json: print the manifest as one JSON object on stdout.
    """
    from preprocess.storage import Location
    from trainer.export.artefact import export_run
    from trainer.fit.run import Run

    place = Location(artefact)
    manifest = export_run(Run.open(Location(run)), place, name=name, version=version, store_uri=store)
    parity = f"programs agree within {manifest.tolerance:g}"
    text = f"{place.uri}: {manifest.name} {manifest.version}, {len(manifest.files)} files, {parity}"
    emit({"artefact": place.uri, **manifest.model_dump(mode="json")}, text, as_json=json)
    return EXIT_DONE
