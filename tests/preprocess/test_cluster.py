"""A cluster does the same work: bytes and tables are those of one process, and every way it fails is one line."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from interscan.cli import run
from preprocess import cluster as clusters
from preprocess.cluster import Cluster
from preprocess.engine import plan_run, run_plan
from preprocess.errors import ScanError, StorageError, StoreError, UsageError
from preprocess.sources import list_scans
from preprocess.storage import Location
from preprocess.store import Store, verify_rows
from preprocess.types import Finding
from tests.support.artefacts import RECIPE as ARTEFACT_RECIPE
from tests.support.artefacts import write_artefact
from tests.support.made_up_ray import MadeUpRay, put_in_place
from tests.support.studies import made_up_head, put

TINY = ("--set", "grid=[16,16,16]", "--set", "spacing_mm=12")


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> MadeUpRay:
    return put_in_place(monkeypatch)


def write_source(root: Path, num_scans: int = 20) -> Path:
    for number in range(num_scans):
        name = f"sub-{number:02d}/anat/sub-{number:02d}_T1w.nii.gz"
        put(root, name, made_up_head(number) if number != 5 else b"no scan at all" * 40)
    return root


def bytes_of(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}


def double(number: int) -> int:
    return 2 * number


def fail(kind: str) -> None:
    raise {"scan": ScanError(Finding("x", "a scan")), "store": StoreError("a store"), "key": KeyError("k")}[kind]


def test_results_come_with_the_number_of_their_arguments(ray: MadeUpRay) -> None:
    with Cluster("auto", where="x") as cluster:
        assert sorted(cluster.map(double, [(number,) for number in range(30)])) == [(n, 2 * n) for n in range(30)]
        assert list(cluster.map(double, [])) == []
    assert ray.log == ["init auto", "shutdown"]


def test_what_is_not_wanted_any_more_is_cancelled(ray: MadeUpRay) -> None:
    with Cluster("auto", where="x") as cluster:
        next(cluster.map(double, [(number,) for number in range(30)]))
    assert sum(line.startswith("cancel") for line in ray.log) == 7  # four for each of two cores, but for the one told
    assert ray.log[-1] == "shutdown"


@pytest.mark.parametrize(("kind", "error"), [("scan", ScanError), ("store", StoreError), ("key", KeyError)])
def test_what_a_task_raises_is_raised_here(kind: str, error: type[Exception], ray: MadeUpRay) -> None:
    with Cluster("auto", where="x") as cluster, pytest.raises(error):
        list(cluster.map(fail, [(kind,)]))


def test_a_worker_that_is_lost_twice_is_no_matter_and_three_times_is_told(ray: MadeUpRay) -> None:
    with Cluster("auto", where="gs://bucket/store") as cluster:
        ray.crashes = 2
        assert list(cluster.map(double, [(4,)])) == [(0, 8)]
        ray.crashes = 3
        with pytest.raises(StorageError, match=r"^gs://bucket/store: a task ended its worker 3 times .* run the same"):
            list(cluster.map(double, [(4,)]))


def test_a_scan_that_ends_its_workers_is_a_finding_and_its_neighbours_are_kept(ray: MadeUpRay, tmp_path: Path) -> None:
    raw = write_source(tmp_path / "raw")
    ray.deadly = lambda call: any(one.scan.subject_id == "sub-09" for one in call[2][1] if hasattr(one, "scan"))
    line = ["preprocess", str(raw), str(tmp_path / "many"), *TINY, "--cluster", "auto"]
    assert run(line) == 1
    records = Store.open(tmp_path / "many").records
    codes = {record.subject_id: [one.code for one in record.findings if one.leaves_out] for record in records}
    assert {subject: found for subject, found in codes.items() if found} == {
        "sub-05": ["not_nifti"],
        "sub-09": ["ends_worker"],
    }
    assert ray.log.count("crash") == 2 * 3  # with its task and then alone
    assert set(verify_rows(Store.open(tmp_path / "many"))) == {None}
    # Harmless again, it is read again, in its own row.
    ray.deadly = lambda _: False
    assert run(line) == 1
    assert run(["preprocess", str(raw), str(tmp_path / "alone"), *TINY, "--workers", "0"]) == 1
    assert bytes_of(tmp_path / "many") == bytes_of(tmp_path / "alone")


def test_a_cluster_on_which_everything_dies_ends_the_run(
    ray: MadeUpRay, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_source(tmp_path / "raw")
    ray.deadly = lambda call: call[1].__name__ in ("run_alone", "store_alone")
    assert run(["preprocess", str(raw), str(tmp_path / "many"), *TINY, "--cluster", "auto"]) == 3
    assert "16 scans one after the other ended their workers" in capsys.readouterr().err


def test_another_version_is_refused(ray: MadeUpRay, monkeypatch: pytest.MonkeyPatch) -> None:
    call = clusters._call
    with pytest.raises(UsageError, match=r"has interscan .*, this is 0\.0\.1; install one version"):
        call("0.0.1", double, (4,))


def test_no_cluster_and_no_ray_are_one_line_each(ray: MadeUpRay, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"--cluster nowhere:1: no cluster answers \(no head there\); give `auto`"):
        Cluster("nowhere:1", where="x").__enter__()
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'interscan\[cluster\]'"):
        Cluster("auto", where="x")


def test_a_machine_that_does_not_see_the_files_is_named_and_no_probe_stays(ray: MadeUpRay, tmp_path: Path) -> None:
    ray.blind = {"10.0.0.2"}
    raw = write_source(tmp_path / "raw", 3)
    line = ["preprocess", str(raw), str(tmp_path / "store"), *TINY, "--cluster", "auto"]
    assert run(line) == 2
    assert not any("probe" in name for name in bytes_of(tmp_path / "store"))
    ray.blind = set()
    assert run(line) == 0


def test_a_store_is_the_same_byte_for_byte(ray: MadeUpRay, tmp_path: Path) -> None:
    raw = write_source(tmp_path / "raw")
    line = ["preprocess", str(raw)]
    assert run([*line, str(tmp_path / "alone"), *TINY, "--workers", "0"]) == 1
    assert run([*line, str(tmp_path / "many"), *TINY, "--cluster", "auto"]) == 1
    assert bytes_of(tmp_path / "many") == bytes_of(tmp_path / "alone")


def test_verify_finds_the_same_faults_in_the_same_order(
    ray: MadeUpRay, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_source(tmp_path / "raw")
    run(["preprocess", str(raw), str(tmp_path / "store"), *TINY, "--workers", "0"])
    chunks = sorted(path for path in (tmp_path / "store").rglob("*") if "/c/" in str(path) and path.is_file())
    for chunk in (chunks[3], chunks[11]):
        chunk.write_bytes(b"x")
    capsys.readouterr()
    answers = []
    for more in ([], ["--cluster", "auto"]):
        assert run(["verify", str(tmp_path / "store"), "--json", *more]) == 3
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1]
    assert len(answers[0]["faults"]) == 2


def test_embeddings_are_the_same_to_the_last_bit(ray: MadeUpRay, tmp_path: Path) -> None:
    raw = write_source(tmp_path / "raw", 12)
    listing = list_scans(str(raw), ("T1w",))
    store = Location(str(tmp_path / "store"))
    run_plan(plan_run(listing, store, ARTEFACT_RECIPE), listing, store, ARTEFACT_RECIPE, workers=0)
    artefact = write_artefact(tmp_path / "tiny" / "1")
    for name, more in (("alone", []), ("many", ["--cluster", "auto"])):
        out = tmp_path / f"{name}.parquet"
        assert run(["embed", str(artefact), store.uri, str(out), "--batch-size", "2", *more]) == 0
    assert (tmp_path / "many.parquet").read_bytes() == (tmp_path / "alone.parquet").read_bytes()


def test_a_cluster_and_shares_of_ones_own_exclude_each_other(tmp_path: Path, ray: MadeUpRay) -> None:
    for more in (("--workers", "2"), ("--shard", "0/2"), ("--commit",), ("--dry-run",)):
        assert run(["preprocess", str(tmp_path), str(tmp_path / "s"), "--cluster", "auto", *more]) == 2


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra cluster")
@pytest.mark.filterwarnings("ignore")
def test_a_real_cluster_loses_a_machine_midway_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    from ray.cluster_utils import Cluster as Machines

    raw = write_source(tmp_path / "raw", 48)
    run(["preprocess", str(raw), str(tmp_path / "alone"), *TINY, "--workers", "0"])
    recipe = Store.open(tmp_path / "alone").manifest.recipe
    machines = Machines(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        first, _ = machines.add_node(num_cpus=1), machines.add_node(num_cpus=1)
        killed: list[int] = []

        def progress(done: int, total: int) -> None:
            if not killed:
                killed.append(done)
                machines.remove_node(first, allow_graceful=False)

        listing, store = list_scans(str(raw), ("T1w",)), Location(str(tmp_path / "many"))
        with Cluster(machines.address, where=store.uri) as cluster:
            plan = plan_run(listing, store, recipe)
            run_plan(plan, listing, store, recipe, cluster=cluster, progress=progress)
            assert 0 < killed[0] < 48
            assert set(verify_rows(Store.open(store), cluster)) == {None}
    finally:
        machines.shutdown()
    many, alone = bytes_of(tmp_path / "many"), bytes_of(tmp_path / "alone")
    assert many.keys() == alone.keys()
    assert {name for name in many if many[name] != alone[name]} == set()
