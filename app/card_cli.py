"""The verb card; what is heavy is imported when it runs."""

from preprocess.console import EXIT_DONE, JsonFlag, emit


def card(artefact: str, *, out: str | None = None, json: JsonFlag = False) -> int:
    """Write an artefact's model card as Markdown: data, use, metrics with controls, calibration, guarantees, limits.

    Every figure is from the artefact's manifest; nothing is measured again.

    Args:
        artefact: Artefact folder, local or gs://, s3://.
        out: Markdown file to write, path or URL; printed when not given.
        json: Print the card, or where it was written, as JSON.
    """
    from app.card import render_card
    from app.registry import read_manifest
    from preprocess.storage import Location, split_file

    text = render_card(read_manifest(Location(artefact)))
    if out is None:
        emit({"artefact": artefact, "card": text}, text, as_json=json)
        return EXIT_DONE
    folder, name = split_file(out, example="card.md")
    Location(folder).write(name, text.encode())
    emit({"artefact": artefact, "out": out}, out, as_json=json)
    return EXIT_DONE
