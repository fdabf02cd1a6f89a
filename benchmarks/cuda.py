"""Training on a GPU: the step, the bucket, the published pipeline, memory and money, beside what `plan` predicts.

python -m benchmarks.cuda [--gpu NAME] [--out FILE]        on a machine with a CUDA device, about half an hour
python -m benchmarks.cuda --device cpu --quick             the same code, tiny, on any machine; its numbers mean nothing

step       ms a volume of both encoders at 96^3 and 128^3, batches of 8 to 256, eager and by torch.compile, from stored
           bytes on the device to changed weights; a batch that does not fit is reported, and no larger one tried.
bucket     volumes a second and utilisation (time in steps over wall time) from a bucket at 30 ms, both encoders, read
           anew in each epoch and with the cohort staying on the device.
published  the published pipeline rebuilt (benchmarks/published_pipeline.py) on the same device.
Dollars are list prices of the table of `interscan plan`; predictions are that plan's, for the device --gpu names there.
"""

import argparse
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.cohort import MODALITY, recipe_of, upload, write_cohort
from benchmarks.device_step import DeviceStep, Encoder, StepCase, forget, peak_gb
from benchmarks.published_pipeline import BUCKET, published_batches, put_full_resolution
from benchmarks.running import finish, machine
from preprocess.store import Store
from tests.support.slow_bucket.client import SlowBucket, slow_bucket
from trainer.fit.precision import Compute, choose_compute, name_of
from trainer.fit.supply import Supply, SupplyOptions
from trainer.plan.estimate import needed_memory, step_speed
from trainer.plan.hardware import Hardware, load_hardware
from trainer.plan.predict import predict_run
from trainer.plan.workload import Workload, measure_step
from trainer.recipe import EncoderRecipe, TrainRecipe

NO_DEVICE = (
    "benchmarks.cuda: this machine offers no CUDA device; run it on one, or see that it runs with --device cpu --quick"
)
ENCODERS: tuple[Encoder, ...] = ("fast", "reference")
NAMES = {"A100": "a100", "H100": "h100", "L4": "l4", "T4": "t4", "V100": "v100"}
"""What a driver calls a device, and what the table of `plan` does."""
_80_GB = 70e9
_EPOCHS = 3
_RESIDENT: tuple[Literal["none", "auto"], ...] = ("none", "auto")
"""Of the bucket: the first fills what stays on the device, the last is timed."""
_PUBLISHED_BATCH, _PUBLISHED_SHAPE = 8, (176, 256, 256)


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        edges: of volumes, in voxels.
        batches: volumes in a step, ascending.
        steps: timed for each case.
        backend: of torch.compile.
        rows: volumes in the bucket, of the first edge.
        passes: over them in an epoch, so that filling the pipeline does not count for much.
        bucket_batch: volumes in a step from the bucket.
        scans: of the published pipeline.
        full_shape: of a scan there.
    """

    edges: tuple[int, ...] = (96, 128)
    batches: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
    steps: int = 20
    backend: str = "inductor"
    rows: int = 512
    passes: int = 8
    bucket_batch: int = 32
    scans: int = 32
    full_shape: tuple[int, int, int] = _PUBLISHED_SHAPE


QUICK = Sizes((16,), (4, 8), 1, "aot_eager", 24, 1, 4, 4, (22, 32, 32))
"""Without a compiler: `aot_eager` traces as inductor would, and generates no code."""


def main() -> None:
    """See the module."""
    options = _options()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.stderr.write(f"{NO_DEVICE}\n")
        sys.exit(2)
    sizes = QUICK if options.quick else Sizes()
    # Half precision on a CPU is the matter of benchmarks/training_step.py.
    compute = choose_compute(options.device, "auto" if options.device == "cuda" else "float32")
    hardware = load_hardware(options.price_table)
    gpu = options.gpu or name_in_table(compute.device, hardware)
    before = machine(torch.__version__)
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if compute.device.type == "cuda" else "cpu",
        "gpu": gpu or None,
        "precision": name_of(compute.dtype),
    }
    result["step"] = time_steps(compute, sizes, hardware, gpu)
    result |= measure_bucket(compute, sizes, hardware, gpu, latency_ms=options.latency_ms)
    result["settings"] = asdict(sizes) | {"latency_ms": options.latency_ms, "epochs": _EPOCHS}
    result["machine"] = before | {"load_1_min_after": machine("")["load_1_min"]}
    finish(result, table(result), options.out)


def name_in_table(device: torch.device, hardware: Hardware) -> str:
    """What `plan` calls this device; empty where its table has none of the kind."""
    if device.type != "cuda":
        return "cpu"
    words = torch.cuda.get_device_name(device).replace("-", " ").split()
    name = next((ours for theirs, ours in NAMES.items() if theirs in words), "")
    if name == "a100" and torch.cuda.get_device_properties(device).total_memory > _80_GB:
        name = "a100-80gb"
    return name if name in hardware.devices else ""


def dollars(hardware: Hardware, gpu: str, volumes_per_s: float) -> dict[str, float]:
    """List price of training on a thousand volumes at this speed, by cloud; empty where there is no price."""
    prices = hardware.devices[gpu].prices if gpu else {}
    return {cloud: price.usd_per_hour / 3600 / volumes_per_s * 1000 for cloud, price in prices.items()}


def time_steps(compute: Compute, sizes: Sizes, hardware: Hardware, gpu: str) -> list[dict[str, Any]]:
    """Every case that fits; of those that do not, the smallest is tried."""
    found: list[dict[str, Any]] = []
    for encoder in ENCODERS:
        for edge in sizes.edges:
            for backend in ("", sizes.backend):
                for batch in sizes.batches:
                    case = StepCase(encoder, edge, batch, backend)
                    metrics = case.time(compute, steps=sizes.steps)
                    if "ms_per_volume" in metrics:
                        metrics["usd_per_thousand"] = dollars(hardware, gpu, 1000 / metrics["ms_per_volume"])
                        metrics |= predicted_step(case, compute, hardware, gpu)
                    sys.stderr.write(f"{encoder} {edge}^3, {batch} volumes, {metrics['mode']}: {_said(metrics)}\n")
                    found.append(metrics)
                    if "ms_per_volume" not in metrics:
                        break  # a larger batch fits no better
    return found


def predicted_step(case: StepCase, compute: Compute, hardware: Hardware, gpu: str) -> dict[str, float]:
    """What `plan` says of the step: ms a volume, and the device's memory in 1e9 bytes."""
    if not gpu:
        return {}
    precision, num_voxels = name_of(compute.dtype), case.edge**3
    work = measure_step(EncoderRecipe(name=case.encoder), (1, *[case.edge] * 3), precision)
    speed = step_speed(
        hardware.devices[gpu],
        hardware.assumed,
        work,
        encoder=case.encoder,
        precision=precision,
        num_voxels=num_voxels,
        batch_volumes=case.batch,
        draws_views=True,
    )
    nothing = np.zeros(0, dtype=np.int64)
    workload = Workload((case.batch,), 1, 2, case.batch, validation_volumes=0, head_volumes=0, rows_N=nothing)
    memory = needed_memory(work, workload, hardware.assumed, num_voxels=num_voxels, itemsize=1, in_flight=64)
    return {"predicted_ms_per_volume": 1000 * speed.seconds_per_volume, "predicted_gb": memory.device_bytes / 1e9}


def measure_bucket(
    compute: Compute, sizes: Sizes, hardware: Hardware, gpu: str, *, latency_ms: float
) -> dict[str, Any]:
    """Both encoders from the bucket, and the published pipeline."""
    result: dict[str, Any] = {"bucket": []}
    with tempfile.TemporaryDirectory() as temporary, slow_bucket() as slow:
        write_cohort(Path(temporary), sizes.rows, sizes.edges[0])
        slow.create(BUCKET)
        upload(slow, BUCKET, Path(temporary), "store")
        store = Store.open(f"gs://{BUCKET}/store", slow.options)
        store.require_fingerprint(recipe_of(sizes.edges[0]).fingerprint())
        put_full_resolution(slow, store, sizes.full_shape, num_scans=sizes.scans)
        slow.set_speed(latency_s=latency_ms / 1000)
        for encoder in ENCODERS:
            prediction = predicted_run(store, encoder, compute, sizes, hardware, gpu)
            for resident in _RESIDENT:
                metrics = train_from(store, encoder, compute, sizes, resident)
                metrics["usd_per_thousand"] = dollars(hardware, gpu, metrics["volumes_per_s"])
                result["bucket"].append(metrics | (prediction if resident == "none" else {}))
        result["published"] = train_published(slow, compute, sizes)
        result["published"]["usd_per_thousand"] = dollars(hardware, gpu, result["published"]["volumes_per_s"])
    ours = {one["resident"]: one["volumes_per_s"] for one in result["bucket"] if one["encoder"] == "fast"}
    result["ratio_to_published"] = {
        "read anew": ours["none"] / result["published"]["volumes_per_s"],
        "on the device": ours["auto"] / result["published"]["volumes_per_s"],
    }
    return result


def train_from(
    store: Store, encoder: Encoder, compute: Compute, sizes: Sizes, resident: Literal["none", "auto"]
) -> dict[str, Any]:
    """Train epochs from the bucket as the trainer reads them; metrics of the last one."""
    forget(compute.device)
    rows = np.arange(sizes.rows).reshape(-1, 2)
    plan = [rows[start : start + sizes.bucket_batch // 2] for start in range(0, len(rows), sizes.bucket_batch // 2)]
    plan *= sizes.passes
    step = DeviceStep(encoder, compute)
    # A CPU's memory is the machine's: there the cohort's own size stands for what a GPU has left.
    room = None if compute.device.type == "cuda" else sizes.rows * store.layout(MODALITY).num_bytes
    with Supply(
        store,
        (MODALITY,),
        num_volumes=sizes.rows,
        resident=resident,
        options=SupplyOptions(device_bytes=room),
        compute=compute,
    ) as supply:
        for _ in range(_EPOCHS):
            step_s = 0.0
            begun = perf_counter()
            with supply.stream(plan, [np.ones((rows_BK.size, 1), dtype=np.bool_) for rows_BK in plan]) as stream:
                for batch in stream:
                    step_s += step.take(batch.stored[MODALITY])
            seconds = perf_counter() - begun
    return {
        "encoder": encoder,
        "resident": resident,
        "batch": sizes.bucket_batch,
        "volumes_per_s": sizes.rows * sizes.passes / seconds,
        "au": step_s / seconds,
        "wait_s": stream.counts.wait_seconds,
        "requests": stream.counts.requests,
        "device_hits": stream.counts.device_hits,
        "peak_gb": peak_gb(compute.device),
    }


def predicted_run(
    store: Store, encoder: Encoder, compute: Compute, sizes: Sizes, hardware: Hardware, gpu: str
) -> dict[str, float]:
    """What `plan` says of such a run, which reads every epoch anew at the latency that a few rows show."""
    if not gpu:
        return {}
    recipe = TrainRecipe.model_validate(
        {
            "name": "cuda", "device": "auto" if gpu != "cpu" else "cpu", "precision": name_of(compute.dtype),
            "data": {"batch_size": sizes.bucket_batch // 2}, "encoder": {"name": encoder},
            "objective": [{"name": "info_nce"}], "optim": {"epochs": _EPOCHS},
            "augment": {"flip": 0.5, "shift_voxels": 2, "gain": 0.1, "noise": 0.02},
        }
    )  # fmt: skip
    prediction = predict_run(recipe, store, hardware, gpu)
    return {"predicted_au": prediction.au.expected, "predicted_volumes_per_s": prediction.volumes_per_s.expected}


def train_published(slow: SlowBucket, compute: Compute, sizes: Sizes) -> dict[str, Any]:
    """The published pipeline on this device: fetched, loaded and resized one at a time, float32, no views."""
    forget(compute.device)
    step = DeviceStep("reference", Compute(compute.device, torch.float32), views=False)
    for batch in published_batches(slow, 2, sizes.edges[0]):
        step.take(batch.to(compute.device))
    step_s = 0.0
    begun = perf_counter()
    for batch in published_batches(slow, sizes.scans, sizes.edges[0]):
        step_s += step.take(batch.to(compute.device))
    seconds = perf_counter() - begun
    return {
        "volumes_per_s": sizes.scans / seconds,
        "au": step_s / seconds,
        "batch": _PUBLISHED_BATCH,
        "peak_gb": peak_gb(compute.device),
    }


def table(result: dict[str, Any]) -> str:
    """The tables of docs/benchmarks.md."""
    lines = [
        f"{result['device']} ({result['gpu'] or 'not in the table of plan'}), {result['precision']}",
        "",
        "| encoder | volume | batch | ms a volume, eager | predicted | compiled | GB | predicted | $ per 1,000 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    steps = {(one["encoder"], one["edge"], one["batch"], one["mode"]): one for one in result["step"]}
    for (encoder, edge, batch, mode), one in steps.items():
        if mode != "eager":
            continue
        compiled = next(
            (other for key, other in steps.items() if key[:3] == (encoder, edge, batch) and other is not one), {}
        )
        lines.append(
            f"| {encoder} | {edge}³ | {batch} | {_said(one)} | {_number(one.get('predicted_ms_per_volume'))} | "
            f"{_said(compiled)} | {_number(one.get('peak_gb'))} | {_number(one.get('predicted_gb'))} | {_money(one)} |"
        )
    lines += [
        "",
        "| from the bucket | volumes/s | predicted | utilisation | predicted | GB | $ per 1,000 volumes |",
        "|---|---|---|---|---|---|---|",
    ]
    where = {"none": "read anew in each epoch", "auto": "on the device after the first"}
    for one in result["bucket"]:
        lines.append(
            f"| {one['encoder']}, {where[one['resident']]} | {_number(one['volumes_per_s'])} | "
            f"{_number(one.get('predicted_volumes_per_s'))} | {_number(one['au'])} | "
            f"{_number(one.get('predicted_au'))} | {_number(one['peak_gb'])} | {_money(one)} |"
        )
    published = result["published"]
    lines.append(
        f"| the published pipeline | {_number(published['volumes_per_s'])} | | {_number(published['au'])} | | "
        f"{_number(published['peak_gb'])} | {_money(published)} |"
    )
    ratios = ", ".join(f"{ratio:.1f}x {how}" for how, ratio in result["ratio_to_published"].items())
    return "\n".join([*lines, "", f"ours over the published pipeline: {ratios}"])


def _said(metrics: dict[str, Any]) -> str:
    if metrics.get("out_of_memory"):
        return "out of memory"
    return "failed" if "failed" in metrics else _number(metrics.get("ms_per_volume"))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _money(metrics: dict[str, Any]) -> str:
    prices = metrics.get("usd_per_thousand", {})
    return ", ".join(f"{cloud} {usd:.2g}" for cloud, usd in prices.items()) or "-"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="volumes of 16^3: shows that it runs")
    parser.add_argument("--gpu", help="the device's name in the table of interscan plan; found by its driver's name")
    parser.add_argument("--price-table", help="TOML file laid over that table")
    parser.add_argument("--latency-ms", type=float, default=30.0)
    parser.add_argument("--out", type=Path, help="file for the JSON as well")
    return parser.parse_args()


if __name__ == "__main__":
    main()
