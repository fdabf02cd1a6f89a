"""What the manifest says of the data and of the evaluation, in the parts that the service and the card read.

No subject, session or file is named: cohorts by the name that their data set gives itself, and nothing below.
"""

from preprocess.manifest import Control, DataSource, Metric
from preprocess.store import Store
from trainer.metrics import evaluation as measured

_SYNTHETIC = "synthetic "
"""What the names of generated data sets begin with; see `interscan.synthetic.brain.bids`."""


def describe_metric(metric: measured.Metric | None) -> Metric | None:
    """A figure as the manifest has it; None where there is no value."""
    if metric is None or metric.value is None:
        return None
    return Metric(value=metric.value, low=metric.low, high=metric.high, chance=metric.chance, num=metric.num)


def describe_controls(evaluation: measured.Evaluation) -> tuple[Control, ...]:
    """What the model was compared with."""
    return tuple(
        Control(
            name=control.name,
            macro_f1=describe_metric(control.scores.get("macro_f1")),
            lead=describe_metric(control.lead),
            p_value=control.p_value,
        )
        for control in evaluation.controls
    )


def describe_data(store: Store, modality: str) -> DataSource:
    """The store's cohorts and scans of one modality."""
    records = [record for record in store.records if record.present and record.modality == modality]
    names = sorted({record.cohort for record in records})
    is_synthetic = bool(names) and all(name.lower().startswith(_SYNTHETIC) for name in names)
    named = tuple(name for name in names if name)
    return DataSource(cohorts=named, is_synthetic=True if is_synthetic else None, num_scans=len(records))
