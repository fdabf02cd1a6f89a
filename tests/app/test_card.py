"""The card states every figure of the manifest as the manifest has it, and says what the manifest does not."""

import re
from pathlib import Path

import pytest

from app.card import render_card
from app.registry import read_manifest
from preprocess.manifest import Control, DataSource, Decision, Guarantee, Manifest, Metric
from preprocess.storage import Location
from tests.support.artefacts import write_artefact, write_severity_artefact

GUARANTEES = (
    Guarantee(name="antisymmetry", is_exact=True, value=0.0, at_most=0.0, num=8, how="scans exchanged"),
    Guarantee(name="slope", value=0.4217, at_least=0.85, at_most=1.15, num=47, how="told | against true change"),
    Guarantee(name="flip", value=0.75, unit="share", at_least=0.9, num=12, typical=0.3141, how="a mirror"),
    Guarantee(name="smallest_change", value=4.187, unit="points", num=77, how="told beyond noise"),
)


@pytest.fixture
def plain(artefact: Path) -> Manifest:
    return read_manifest(Location(artefact))


@pytest.fixture
def full(plain: Manifest) -> Manifest:
    metrics = {
        "macro_f1": Metric(value=0.873, low=0.741, high=0.952, chance=0.327, num=47),
        "log_loss": Metric(value=0.412, chance=1.043, num=47),
        "coverage": Metric(value=0.91, low=0.84, high=0.97, num=47),
        "odd_figure": Metric(value=5.5),
    }
    controls = (
        Control(name="gap_days", macro_f1=Metric(value=0.353), lead=Metric(value=0.52, low=0.31, high=0.68)),
        Control(name="shuffled_labels", macro_f1=Metric(value=0.331), p_value=0.0005),
    )
    data = DataSource(cohorts=("Synthetic longitudinal brain cohort",), is_synthetic=True, num_scans=366)
    return plain.model_copy(update={"metrics": metrics, "controls": controls, "data": data, "measured": GUARANTEES})


def table(card: str, title: str) -> dict[str, list[str]]:
    """Cells by the first one, of the tables of a section."""
    section = card.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in section.splitlines() if line.startswith("|")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_the_sections_are_there_in_order(full: Manifest) -> None:
    titles = re.findall(r"^## (.*)$", render_card(full), re.MULTILINE)
    assert titles == [
        "Data", "Intended use", "Out of scope", "Metrics", "Calibration", "Guarantees", "Limits", "Provenance",
        "How to cite",
    ]  # fmt: skip


def test_figures_stand_beside_chance_and_controls(full: Manifest) -> None:
    rows = table(render_card(full), "Metrics")
    assert rows["macro-F1 of improved, stable and declined"] == ["0.873", "(0.741 to 0.952)", "0.327", "47"]
    assert rows["odd figure"] == ["5.5", "", "not stated", ""]
    assert rows["the gap in days alone"] == ["0.353", "+0.52 (0.31 to 0.68)"]
    assert rows["shuffled labels"] == ["0.331", "p = 0.0005"]


def test_data_says_synthetic_only_where_the_manifest_does(full: Manifest, plain: Manifest) -> None:
    assert table(render_card(full), "Data")["synthetic"] == ["yes: generated scans, no patients"]
    assert table(render_card(full), "Data")["scans in the store"] == ["366"]
    assert table(render_card(plain), "Data")["synthetic"] == ["not stated"]
    assert table(render_card(plain), "Data")["people"] == ["10 train"]


def test_log_loss_is_judged_against_the_base_rates(full: Manifest) -> None:
    assert "Log loss 0.412 on the test part, below the 1.043 of the base rates." in render_card(full)
    worse = full.model_copy(update={"metrics": {"log_loss": Metric(value=1.2, chance=1.043)}})
    assert "Log loss 1.200 on the test part, **not below** the 1.043 of the base rates" in render_card(worse)


def test_prediction_sets_are_those_of_the_manifest(full: Manifest, plain: Manifest) -> None:
    decision = Decision(
        coverage=0.9,
        least_probability={"improved": 0.31, "stable": 0.42, "declined": 0.53},
        num_people=78,
        num_pairs=234,
        noise=None,
        error_sd=1.5,
        log_loss=0.55,
        base_rate_log_loss=1.05,
        is_calibrated=True,
    )
    card = render_card(full.model_copy(update={"decision": decision}))
    assert "improved 0.31, stable 0.42, declined 0.53. Meant to hold the true answer in 90%" in card
    assert "from 234 pairs of 78 people" in card
    assert "Log loss on these pairs 0.550, of their base rates 1.050: calibrated." in card
    assert "- Coverage measured on the test part: 91% (0.84 to 0.97)." in card
    without = render_card(plain.model_copy(update={"decision": None}))
    assert without.split("### Prediction sets\n\n")[1].startswith("Not stated.")


def test_guarantees_say_which_hold_and_no_cell_is_broken(full: Manifest) -> None:
    rows = table(render_card(full), "Guarantees")
    assert rows["antisymmetry (exact)"] == ["0", "at most 0", "yes", "8", "", "scans exchanged"]
    assert rows["slope"][:3] == ["0.422", "0.85 to 1.15", "**no**"]
    assert rows["slope"][-1] == r"told \| against true change"
    assert rows["flip"] == ["0.75", "at least 0.9", "**no**", "12", "0.31", "a mirror"]
    assert rows["smallest change"][:3] == ["4.19 points", "", ""]
    assert "different units" in render_card(full)


def test_what_an_older_manifest_lacks_is_not_stated(plain: Manifest) -> None:
    card = render_card(plain)
    assert "Measured properties: not stated." in card
    assert "Controls: not stated." in card
    assert "- knows nothing" in card


def test_provenance_is_the_manifests(full: Manifest) -> None:
    rows = table(render_card(full), "Provenance")
    assert rows["preprocessing fingerprint"] == [full.inputs.fingerprint]
    assert rows["git revision"] == [full.training.git_revision]
    assert rows["torch"] == [full.training.torch_version]
    assert rows["inputs"] == ["T1w, 1 x 16 x 16 x 16"]
    assert full.training.checkpoint in render_card(full).split("## How to cite")[1]
    # Where the run and the store lie is nobody else's business.
    assert "private-bucket" not in render_card(full)


def test_a_card_of_severity_speaks_of_distance(tmp_path: Path) -> None:
    card = render_card(read_manifest(Location(write_severity_artefact(tmp_path / "far"))))
    assert "Tells how far a scan lies from normal ones" in card
    assert "A distance is answered, and no probability." in card
    assert "never which disease" in card


def test_a_name_cannot_make_a_heading_of_its_own(tmp_path: Path) -> None:
    card = render_card(read_manifest(Location(write_artefact(tmp_path / "odd", name="a\n## Forged"))))
    assert "\n## Forged" not in card.split("## How to cite")[0]
