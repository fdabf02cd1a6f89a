"""A prediction as a short table for the person who decides, with what limits the run and what to do about it."""

import math
from dataclasses import replace

from trainer.plan.estimate import Limit, Range, in_flight_for, limit_of
from trainer.plan.prediction import Prediction

_WORTHWHILE = 1.1
"""A remedy that gains less than a tenth is none."""


def plan_text(prediction: Prediction, hours_limit: float | None) -> str:
    """The table, the limit, and the assumptions.

    Args:
        prediction: what was predicted.
        hours_limit: largest acceptable number of hours, None for any.
    """
    workload, probe, reach = prediction.workload, prediction.probe, prediction.reach
    kept_busy = f"{prediction.au.expected:.2f} ({prediction.au.low:.2f} to {prediction.au.high:.2f})"
    rows = [
        ("device", f"{prediction.gpu}: {prediction.device.name}, {prediction.precision}"),
        ("utilisation (AU)", kept_busy),
        ("time", _time(prediction.hours)),
        ("speed", f"{prediction.volumes_per_s.expected:,.0f} volumes/s, limited by {prediction.limit}"),
        (
            "stations",
            f"latency {reach.latency:,.0f}, bandwidth {_count(reach.bandwidth)}, client {reach.client:,.0f}, "
            f"decode {reach.decode:,.0f}, compute {prediction.demand:,.0f} volumes/s ({prediction.speed.basis})",
        ),
        (
            "reads",
            f"{workload.training_volumes:,} volumes in {workload.epochs} epochs, {workload.embedded_volumes:,} more to "
            f"validate: {workload.num_requests:,} requests, {prediction.gb_moved:.3g} GB",
        ),
        (
            "probe",
            f"{len(probe.num_bytes)} rows: {1e3 * prediction.latency_s.expected:.3g} ms, "
            f"{probe.bytes_per_volume / 1e3:,.0f} kB, {1e3 * probe.typical_fetch_cpu_s:.2g} ms of a core to fetch, "
            f"{1e3 * probe.typical_decode_s:.2g} ms to decode",
        ),
        ("memory", _memory(prediction)),
        *_costs(prediction),
        ("verdict", prediction.refusal(hours_limit) or remedy(prediction)),
    ]
    width = max(len(name) for name, _ in rows) + 2
    lines = [f"{name:<{width}}{value}" for name, value in rows]
    return "\n".join([*lines, "assumed:", *(f"  {sentence}" for sentence in prediction.assumptions)])


def remedy(prediction: Prediction) -> str:
    """What to do about the station that limits the run."""
    if prediction.limit != "network latency":
        return _advice(prediction, prediction.limit)
    if not prediction.probe.is_async:
        return "four threads read local files: a faster disk, or the same store in a bucket"
    # More requests at once are worth no more than the next station passes on.
    beyond = replace(prediction.reach, latency=math.inf)
    goal = min(prediction.demand, beyond.slowest)
    if goal < _WORTHWHILE * prediction.reach.latency:
        following = limit_of(beyond, prediction.demand)
        return (
            f"raising data.in_flight would meet the next limit, {following}, at {goal:,.0f} volumes/s: "
            f"{_advice(prediction, following)}"
        )
    needed = in_flight_for(goal, prediction.latency_s.expected)
    return (
        f"raise data.in_flight to {needed}: {goal:,.0f} volumes/s would arrive, utilisation "
        f"{goal / prediction.demand:.2f}; or train nearer to the bucket"
    )


def _advice(prediction: Prediction, limit: Limit) -> str:
    """What helps where a station other than the network's latency is the slowest."""
    if limit == "compute":
        faster = "" if prediction.au.low >= 1 else f" (utilisation {prediction.au.low:.2f} at the worst)"
        return f"the device is not kept waiting{faster}; only a faster --gpu or encoder shortens the run"
    if limit == "network bandwidth":
        need = prediction.demand * prediction.probe.bytes_per_volume / 1e6
        return f"{need:,.0f} MB/s would keep the device busy: a machine with more bandwidth, or fewer bytes a volume"
    if limit == "client":
        return "one event loop fetches everything: faster cores, fewer bytes a volume, or a smaller and cheaper --gpu"
    return "decoding takes all cores: more or faster ones, fewer bytes a volume, or a smaller and cheaper --gpu"


def _time(hours: Range) -> str:
    if hours.high < 1:
        return f"{60 * hours.expected:.1f} minutes ({60 * hours.low:.1f} to {60 * hours.high:.1f})"
    return f"{hours.expected:.2f} hours ({hours.low:.2f} to {hours.high:.2f})"


def _memory(prediction: Prediction) -> str:
    memory = prediction.memory
    fits = "fits" if prediction.fits else "does not fit"
    return (
        f"{memory.device_bytes / 1e9:.2f} of {prediction.memory_limit_bytes / 1e9:.0f} GB for batches of "
        f"{prediction.workload.largest_batch} volumes: {fits} (largest data.batch_size {prediction.max_batch_size}); "
        f"{memory.read_ahead_bytes / 1e9:.2f} GB read ahead{_stay(prediction)}"
    )


def _stay(prediction: Prediction) -> str:
    """What the hours leave out: a cohort that stays on the device is read once, and the table counts every epoch."""
    if not prediction.stays_on_device:
        return ""
    return (
        f"; the cohort's {prediction.cohort_bytes / 1e9:.2g} GB stay on the device after the first epoch, so later "
        "ones read nothing: time, reads and cost are upper bounds"
    )


def _costs(prediction: Prediction) -> list[tuple[str, str]]:
    lines = []
    for cloud, usd in prediction.compute_usd().items():
        price = prediction.device.prices[cloud]
        spent = f"${usd.expected:.2f} (${usd.low:.2f} to ${usd.high:.2f})"
        listed = f"${price.usd_per_hour:.4g} an hour ({price.machine}; list price of {price.date})"
        lines.append((f"cost, {cloud}", f"{spent} at {listed}"))
    if not lines:
        lines.append(("cost", "no price of this device in the table; give one with --price-table"))
    requests, egress = prediction.requests_usd(), prediction.egress_usd()
    if prediction.storage is not None and requests is not None and egress is not None:
        lines.append(
            (
                "cost, bucket",
                f"${requests:.4f} for requests; ${egress:.2f} for bytes if the machine is outside the bucket's region "
                f"(list prices of {prediction.storage.date})",
            )
        )
    return lines


def _count(volumes_per_s: float) -> str:
    return f"{volumes_per_s:,.0f}" if math.isfinite(volumes_per_s) else "not counted"
