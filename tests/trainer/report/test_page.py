"""The page is well-formed, self-contained, escaped, and says what the numbers say."""

import base64
import html.parser
import re

import pytest

from trainer.metrics.evaluation import ControlResult, Evaluation, HistorySummary, Metric, SplitCount
from trainer.report.page import METRICS, PLOTS, render_report
from trainer.report.plots import confusion_plot

VOID = {"meta", "img", "line", "circle", "br"}


class Page(html.parser.HTMLParser):
    """Reads a page strictly: every element is closed in order; keeps text, attributes and tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
            if self.cells and ("td" in self.open or "th" in self.open):
                self.cells[-1] += data


def lead(name: str, low: float) -> ControlResult:
    scores = {"macro_f1": Metric(value=0.37 if name == "scanner" else 0.41, low=0.3, high=0.45, num=80)}
    return ControlResult(name=name, scores=scores, lead=Metric(value=0.1, low=low, high=0.2, num=80))


def made(lowest_lead: float = 0.03, **changes: object) -> Evaluation:
    made_up = Evaluation(
        run_uri="gs://bucket/runs/<script>alert('run')</script>",
        recipe="learner & <b>co</b>",
        fingerprint="sha256:5f0c",
        splits={
            "train": SplitCount(subjects=1500, scans=4321, pairs=900),
            "test": SplitCount(subjects=40, scans=120, pairs=80),
        },
        metrics={
            "macro_f1": Metric(value=0.5, low=0.42, high=0.58, chance=0.35, num=80, num_subjects=40),
            "my <own> metric": Metric(value=None, num=0, note="not <measured>"),
            "log_loss": Metric(value=0.912, chance=1.04, num=80),
        },
        controls=(lead("gap_days", lowest_lead), lead("scanner", 0.05)),
        history=HistorySummary(num_epochs=2, first_loss=2.7, last_loss=1.9, chance_loss=2.77, seconds=1234.0),
        notes=("theta <2>",),
        caveats=('a "quoted" caveat',),
    )
    return made_up.model_copy(update=changes)


def test_page_is_well_formed_and_names_are_escaped() -> None:
    text = render_report(made(), {}, [])
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not {"script", "b", "own", "link", "iframe"} & set(page.tags)
    for said in ("learner & <b>co</b>", "<script>alert('run')</script>", "my <own> metric", "not <measured>",
                 "theta <2>", 'a "quoted" caveat'):  # fmt: skip
        assert said in page.text


def test_page_reaches_for_nothing_outside_itself() -> None:
    text = render_report(made(), {"confusion": b"png"}, [{"epoch": 1.0}])
    assert re.findall(r"(?:https?:)?//[a-z]|@import|url\(", text.replace("gs://bucket", "")) == []
    links = [value for _, name, value in Page(text).attributes if name in ("src", "href", "srcset", "data", "action")]
    assert links == ["data:image/png;base64," + base64.b64encode(b"png").decode()]


def test_plots_arrive_unchanged_with_alt_text_known_ones_in_the_order_of_the_page() -> None:
    png = confusion_plot([[5, 1, 0], [2, 7, 1], [0, 0, 4]])
    page = Page(render_report(made(), {"my own": b"x", "training": b"y", "confusion": png}, []))
    sources = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    alts = [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")]
    assert base64.b64decode(sources[0].partition(",")[2]) == png
    assert alts == [PLOTS["confusion"].alt, PLOTS["training"].alt, "my own"]
    assert PLOTS["confusion"].reading in page.text


def test_headline_turns_when_the_numbers_do() -> None:
    good, bad = Page(render_report(made(0.03), {}, [])), Page(render_report(made(-0.03), {}, []))
    assert "better than chance and than every control" in good.text
    assert ("section", "class", "verdict shown") in good.attributes
    assert "Better than chance, but not better than the gap in days alone." in bad.text
    assert ("section", "class", "verdict not-shown") in bad.attributes
    assert "Not better than the gap in days alone, by macro-F1." in bad.text
    assert good.cells.count("beaten") == 2
    assert (bad.cells.count("beaten"), bad.cells.count("not beaten")) == (1, 1)


def test_each_number_stands_beside_chance_and_its_best_control() -> None:
    page = Page(render_report(made(), {}, []))
    cells = [" ".join(cell.split()) for cell in page.cells]
    row = next(index for index, cell in enumerate(cells) if cell.startswith(METRICS["macro_f1"].title + " ↑"))
    assert cells[row + 1 : row + 5] == ["0.50", "0.42 to 0.58", "", "0.35"]
    assert cells[row + 5 : row + 7] == ["0.41the gap in days alone", "80"]
    unmeasured = next(index for index, cell in enumerate(cells) if cell.startswith("my <own> metric"))
    assert cells[unmeasured + 1 : unmeasured + 3] == ["–", "–"]
    assert unmeasured > row


def test_the_untrained_network_stands_beside_what_it_does_as_well() -> None:
    found = Metric(value=0.8, low=0.7, high=0.9, chance=0.02, num=50)
    score, lead_over = Metric(value=0.55, low=0.4, high=0.7, num=50), Metric(value=0.25, low=-0.1, high=0.4, num=50)
    untrained = ControlResult(name="untrained", scores={"retrieval_at_1": score}, leads={"retrieval_at_1": lead_over})
    without = made(controls=(lead("scanner", 0.05), untrained), metrics={"retrieval_at_1": found})
    page = Page(render_report(without, {}, []))
    cells = [" ".join(cell.split()) for cell in page.cells]
    row = cells.index("Retrieval@1, the untrained network")
    assert cells[row + 1 : row + 6] == ["0.80", "0.55", "0.40 to 0.70", "+0.25-0.10 to +0.40", "not beaten"]
    assert "0.55the untrained network" in cells
    assert cells.count("the untrained network") == 0  # it has no macro-F1, so no row among those that have


def test_shuffled_labels_say_what_was_exchanged() -> None:
    score = Metric(
        value=0.3, low=0.25, high=0.35, num=80, note="the labels of whole people; 3 of 40 people keep theirs"
    )
    shuffled = ControlResult(name="shuffled_labels", scores={"macro_f1": score}, p_value=0.001)
    assert "3 of 40 people keep theirs" in Page(render_report(made(controls=(shuffled,)), {}, [])).text


def test_drawn_interval_lies_where_the_numbers_are() -> None:
    page = Page(render_report(made(), {}, []))
    spans = [float(value) for tag, name, value in page.attributes if tag == "line" and name in ("x1", "x2")]
    assert spans[:6] == pytest.approx([0, 100, 42, 58, 35, 35])
    assert next(float(v) for tag, name, v in page.attributes if (tag, name) == ("circle", "cx")) == pytest.approx(50)


def test_provenance_and_every_epoch_are_told() -> None:
    page = Page(render_report(made(), {}, [{"epoch": 1, "loss": 2.71234}, {"epoch": 2, "retrieval_at_1": 0.25}]))
    assert "1,500 subjects, 4,321 scans, 900 pairs" in page.text
    assert "2 epochs, loss 2.70 to 1.90 (chance 2.77), 1,234 s" in page.text
    assert page.cells[-9:] == ["epoch", "loss", "retrieval_at_1", "1", "2.712", "–", "2", "–", "0.25"]


def test_an_evaluation_with_next_to_nothing_still_makes_a_page() -> None:
    page = Page(render_report(made(metrics={}, controls=(), history=None, notes=(), caveats=()), {}, []))
    assert "Cannot be told" in page.text
    assert "Against the controls" not in page.text


def test_caveats_given_and_found_appear_once_each() -> None:
    found = "Not better than the gap in days alone, by macro-F1."
    page = Page(render_report(made(-0.03, caveats=(found, "Read with care.")), {}, []))
    assert page.text.count(found) == 1
    assert "Read with care." in page.text
