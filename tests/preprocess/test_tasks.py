"""A task leaves a record of what it wrote, in the plan's order, whatever is wrong with a scan."""

import json
from pathlib import Path

from preprocess.engine import plan_run
from preprocess.index import IndexRecord
from preprocess.sources import list_scans
from preprocess.storage import Location
from preprocess.tasks import Work, record_name, run_task
from preprocess.writer import prepare_arrays
from tests.support.images import RECIPE, head_file, write_bids


def test_a_record_tells_each_scan_kept_or_left_out(tmp_path: Path) -> None:
    raw = write_bids(tmp_path / "raw", {"01": {"01": head_file(), "02": head_file()[:-80]}}, {"01": 0, "02": 9})
    listing = list_scans(str(raw), ("T1w",))
    store = Location(tmp_path / "s")
    plan = plan_run(listing, store, RECIPE)
    prepare_arrays(store, RECIPE, ["T1w"], plan.num_rows)

    number = run_task(Work(store.uri, {}, listing.root.uri, {}, RECIPE, ".work/x"), plan.tasks[0], 3)

    assert number == 3
    recorded = [IndexRecord.from_dict(one) for one in json.loads(store.read(record_name(".work/x", 3)))]
    assert [(one.row, one.present, bool(one.content_sha256)) for one in recorded] == [
        (0, True, True),
        (1, False, False),
    ]
    assert [finding.code for finding in recorded[1].findings] == ["truncated"]
