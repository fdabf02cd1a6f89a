"""Whether trajectories of people whom no network has seen hold their true change a year, as JSON.

    python -m benchmarks.trajectories RUN ARTEFACT

The artefact is an export of the run, whose store must still lie where the run was trained. The true change a year of a
person is the slope of a line through all scores, which contain the error of the score. People whose scores span less
than half a year are left out.
"""

import argparse
import json
import sys
from collections import Counter

import numpy as np

from app.inputs import PreparedScan
from app.registry import load_artefact
from app.trajectory import DAYS_A_YEAR
from app.trajectory_answer import answer_trajectory
from preprocess.storage import Location
from preprocess.types import PROGRESSIONS
from trainer.data.cohort import read_cohort
from trainer.data.pairs import progression_labels
from trainer.export.references import MIN_SPAN_YEARS
from trainer.fit.run import Run

UNSEEN = ("validation", "test")


def measure(run_uri: str, artefact: str) -> dict[str, object]:
    """Answer for every unseen person, and hold the answers against the scores.

    Args:
        run_uri: the run's folder.
        artefact: exported from it.
    """
    run, model = Run.open(Location(run_uri)), load_artefact(artefact)
    store, outcome, modality = run.open_store(None), run.recipe.outcome, run.recipe.data.modality
    ages = {record.row: record.outcomes.get("age") for record in store.records}
    cohort = read_cohort(store, modality, outcome.name)
    unseen = cohort.of_subjects([person for part in UNSEEN for person in run.split.of(part)])
    dated = unseen.at(np.flatnonzero(np.isfinite(unseen.scores_N) & np.isfinite(unseen.days_N)).tolist())
    rows: list[dict[str, float]] = []
    decisions: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for indices in dated.indices_by_subject.values():
        days = dated.days_N[indices]
        span_years = float(np.ptp(days)) / DAYS_A_YEAR
        if span_years < MIN_SPAN_YEARS:
            continue
        slope = np.polyfit(days / DAYS_A_YEAR, dated.scores_N[indices], 1)[0]
        label = PROGRESSIONS[progression_labels(np.array([slope * span_years]), outcome)[0]]
        row_K = dated.rows_N[indices]
        scans = [PreparedScan(store.read(int(row), modality), f"row-{row}", ()) for row in row_K]
        answer = answer_trajectory(model, scans, days.tolist(), age=ages[int(row_K[0])])
        annual, known = answer.annual_change, answer.percentile_for_age
        assert annual is not None
        decisions[f"{label} answered {answer.decision}"] += 1
        reasons.update(answer.reasons if answer.decision == "undecided" else ())
        true = float(slope if outcome.higher_is_better else -slope)
        rows.append(
            {
                "error": annual.points_per_year - true,
                "half_width": (annual.high - annual.low) / 2,
                "is_inside": annual.low <= true <= annual.high,
                "is_scattered": (annual.scatter_sd or 0.0) > annual.visit_sd,
                "num_visits": len(indices),
                "span_years": span_years,
                "has_percentile": known is not None,
            }
        )
    column = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]}
    return {
        "artefact": artefact,
        "num_people": len(rows),
        "visits": [int(column["num_visits"].min()), int(column["num_visits"].max())],
        "median_span_years": round(float(np.median(column["span_years"])), 2),
        "coverage_95": round(float(column["is_inside"].mean()), 3),
        "error_sd": round(float(np.sqrt((column["error"] ** 2).mean())), 2),
        "median_half_width": round(float(np.median(column["half_width"])), 2),
        "scatter_larger": round(float(column["is_scattered"].mean()), 2),
        "with_percentile": round(float(column["has_percentile"].mean()), 2),
        "decisions": dict(sorted(decisions.items())),
        "undecided_for": dict(reasons.most_common()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("artefact")
    given = parser.parse_args()
    json.dump(measure(given.run, given.artefact), sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
