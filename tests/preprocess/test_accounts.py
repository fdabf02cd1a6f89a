"""The account in the store: true when store.json is, replaced and dropped with it, bounded, and one a cohort."""

import json
from pathlib import Path

import pytest

from preprocess import engine
from preprocess.accounts import MOST_ENTRIES, describe, drop_replaced, read_account, write_account
from preprocess.engine import preprocess
from preprocess.errors import StoreError
from preprocess.schema import StoreManifest
from preprocess.sources import list_scans
from preprocess.sources.reconciliation import Reconciliation
from preprocess.storage import Location
from preprocess.store import Store
from tests.support.images import RECIPE, head_file, tree, write_bids


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    root = write_bids(tmp_path / "raw", {"01": {"01": head_file(), "02": head_file(0.95)}}, {"01": 0, "02": 180})
    (root / "derivatives").mkdir()
    (root / "derivatives/x.nii").write_text("x")
    return root


def accounts(store: Path) -> set[str]:
    return {name for name in tree(store) if name.startswith("reconciliation/")}


def test_a_store_holds_what_became_of_everything_at_its_source(raw: Path, tmp_path: Path) -> None:
    preprocess(str(raw), str(tmp_path / "s"), RECIPE, workers=0)
    store = Store.open(tmp_path / "s")
    entry = store.manifest.reconciliation["tiny"]
    assert entry.files == {"there": 5, "scans": 2, "read": 2, "other": 0, "passed_over": 1}
    assert entry.counts == {"passed_over": {"derivatives": 1}}
    listing = list_scans(str(raw), ("T1w",))
    assert read_account(store.location, store.manifest, "tiny") == listing.account.to_dict()
    assert read_account(store.location, store.manifest, "other") is None
    assert not [name for name, data in tree(tmp_path / "s").items() if str(tmp_path).encode() in data]


def test_the_account_follows_the_source_though_no_scan_is_new(raw: Path, tmp_path: Path) -> None:
    store = tmp_path / "s"
    preprocess(str(raw), str(store), RECIPE, workers=0)
    first, before = accounts(store), tree(store)
    preprocess(str(raw), str(store), RECIPE, workers=0)
    assert tree(store) == before
    (raw / "derivatives/y.nii").write_text("y")
    preprocess(str(raw), str(store), RECIPE, workers=0)
    assert len(accounts(store)) == 1
    assert accounts(store) != first
    assert Store.open(store).manifest.reconciliation["tiny"].counts == {"passed_over": {"derivatives": 2}}


def test_a_run_cut_off_before_store_json_leaves_the_old_account_whole(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Location(tmp_path / "s")
    preprocess(str(raw), store.uri, RECIPE, workers=0)
    (raw / "derivatives/y.nii").write_text("y")

    def die(*_: object, **__: object) -> StoreManifest:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine, "commit", die)
        with pytest.raises(KeyboardInterrupt):
            preprocess(str(raw), store.uri, RECIPE, workers=0)
    opened = Store.open(store)
    account = read_account(store, opened.manifest, "tiny")
    assert account is not None
    assert account["files"]["passed_over"] == 1


def test_a_store_without_accounts_stays_readable_and_gets_one(raw: Path, tmp_path: Path) -> None:
    store = tmp_path / "s"
    preprocess(str(raw), str(store), RECIPE, workers=0)
    whole = tree(store)
    old = json.loads((store / "store.json").read_text())
    del old["reconciliation"]
    (store / "store.json").write_text(json.dumps(old))
    assert Store.open(store).manifest.reconciliation == {}
    preprocess(str(raw), str(store), RECIPE, workers=0)
    assert tree(store) == whole


def test_a_missing_or_changed_account_is_reported(raw: Path, tmp_path: Path) -> None:
    preprocess(str(raw), str(tmp_path / "s"), RECIPE, workers=0)
    store = Store.open(tmp_path / "s")
    path = tmp_path / "s" / store.manifest.reconciliation["tiny"].name
    path.write_text("{}")
    with pytest.raises(StoreError, match="was changed; run interscan preprocess again"):
        read_account(store.location, store.manifest, "tiny")
    path.unlink()
    with pytest.raises(StoreError, match="is missing; run interscan preprocess again"):
        read_account(store.location, store.manifest, "tiny")


def test_a_hundred_thousand_files_stay_a_small_account_with_whole_counts() -> None:
    account = Reconciliation()
    for number in range(100_000):
        account.pass_over(
            "derivatives", f"derivatives/sub-{number:06d}/anat/sub-{number:06d}_T1w.nii.gz", "made from scans"
        )
    entry, content = describe(account)
    assert entry.counts == {"passed_over": {"derivatives": 100_000}}
    assert len(json.loads(content)["passed_over"]["derivatives"]["entries"]) == MOST_ENTRIES
    assert len(content) < 4 * 2**20
    assert len(entry.model_dump_json()) < 400


def test_cohorts_have_an_account_each_and_only_what_is_replaced_is_dropped(raw: Path, tmp_path: Path) -> None:
    store = Location(tmp_path / "s")
    preprocess(str(raw), store.uri, RECIPE, workers=0)
    manifest = Store.open(store).manifest
    other = Reconciliation(num_scan_files=7)
    both = write_account(store, manifest, "other", other)
    assert both["tiny"] == manifest.reconciliation["tiny"]
    drop_replaced(store, manifest, both)
    assert accounts(tmp_path / "s") == {entry.name for entry in both.values()}
    drop_replaced(store, manifest, {"other": both["other"]})
    assert accounts(tmp_path / "s") == {both["other"].name}
