"""From recipe, store and table to a prediction: counts, probes, and hands both to the model."""

import os
from dataclasses import replace

import numpy as np

from preprocess.console import LOG
from preprocess.errors import UsageError
from preprocess.machine import num_cores
from preprocess.store import Store
from trainer.fit.context import training_cohort
from trainer.fit.model import new_model
from trainer.fit.precision import choose_compute, name_of
from trainer.fit.trial import scans_at_once, settle
from trainer.plan.estimate import (
    Memory,
    Range,
    StepSpeed,
    limit_of,
    mean_latency,
    needed_memory,
    run_seconds,
    step_speed,
    supply,
    utilisation,
)
from trainer.plan.hardware import Device, Hardware
from trainer.plan.prediction import Prediction
from trainer.plan.probe import Probe, probe_rows
from trainer.plan.workload import Workload, count_workload, measure_step
from trainer.recipe import TrainRecipe


def predict_run(recipe: TrainRecipe, store: Store, hardware: Hardware, gpu: str) -> Prediction:
    """Predict a run; reads the store's metadata and at most `PROBE_ROWS` rows.

    Args:
        recipe: what would be trained.
        store: on which volumes.
        hardware: the table.
        gpu: device in it.

    Raises:
        InterscanError: no such device, the recipe cannot be followed on this store, or a probed row is damaged.
    """
    if recipe.data.modalities:
        raise UsageError(
            f"plan measures one modality and data.modalities has {len(recipe.data.modalities)} "
            f"({', '.join(recipe.data.modalities)}); time one epoch of the run instead"
        )
    device = hardware.device(gpu)
    precision = _precision(recipe, store, gpu, device)
    cohort = training_cohort(store, recipe)
    if cohort.note:
        LOG.warning("%s", cohort.note)
    workload = count_workload(recipe, cohort)
    layout = store.layout(recipe.data.modality)
    num_voxels = int(np.prod(layout.shape))
    work = measure_step(recipe.encoder, layout.shape, precision)
    memory = needed_memory(
        work,
        workload,
        hardware.assumed,
        num_voxels=num_voxels,
        itemsize=layout.dtype.itemsize,
        in_flight=recipe.data.in_flight,
        cache_chunk=recipe.optim.cache_chunk,
    )
    speed = step_speed(
        device,
        hardware.assumed,
        work,
        encoder=recipe.encoder.name,
        precision=precision,
        num_voxels=num_voxels,
        batch_volumes=workload.training_volumes / workload.num_steps,
        draws_views=any(recipe.augment.model_dump().values()),
        embeds_twice=recipe.optim.cache_chunk > 0,
    )
    probe = probe_rows(store, recipe.data.modality, workload.rows_N)
    return _combine(recipe, hardware, gpu, precision, workload, memory, speed, probe, layout.num_bytes)


def _combine(
    recipe: TrainRecipe,
    hardware: Hardware,
    gpu: str,
    precision: str,
    workload: Workload,
    memory: Memory,
    speed: StepSpeed,
    probe: Probe,
    volume_bytes: int,
) -> Prediction:
    device, network, assumed = hardware.device(gpu), hardware.network, hardware.assumed
    latency = mean_latency(probe, network)
    demand = 1 / speed.seconds_per_volume
    # How far a derived speed may be off, beside the probe's spread.
    off = assumed.derived_within if speed.basis == "derived" else 1.0
    cores = num_cores()
    reach, near, far = (
        supply(probe, network, latency_s=seconds, in_flight=recipe.data.in_flight, num_cores=cores)
        for seconds in (latency.expected, latency.low, latency.high)
    )
    cases = ((reach, demand, latency.expected), (near, demand * off, latency.low), (far, demand / off, latency.high))
    hours = Range(
        *(
            run_seconds(workload, supplied, assumed, demand=needed, latency_s=seconds) / 3600
            for supplied, needed, seconds in cases
        )
    )
    own_memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if device.memory_gb is None:
        # One memory for both: what is read ahead lies beside the batch.
        memory = replace(
            memory,
            device_bytes=memory.device_bytes + memory.read_ahead_bytes,
            fixed_bytes=memory.fixed_bytes + memory.read_ahead_bytes,
        )
    return Prediction(
        gpu=gpu,
        device=device,
        storage=hardware.storage.get("gs" if probe.protocol == "gcs" else probe.protocol),
        precision=precision,
        in_flight=recipe.data.in_flight,
        workload=workload,
        probe=probe,
        latency_s=latency,
        speed=speed,
        reach=reach,
        limit=limit_of(reach, demand),
        au=Range(utilisation(reach, demand), utilisation(far, demand * off), utilisation(near, demand / off)),
        volumes_per_s=Range(*(min(supplied.slowest, needed) for supplied, needed, _ in (cases[0], cases[2], cases[1]))),
        hours=hours,
        memory=memory,
        memory_limit_bytes=float(own_memory) if device.memory_gb is None else device.memory_gb * 1e9,
        cohort_bytes=float(workload.head_volumes * volume_bytes),
        may_stay=device.memory_gb is not None and recipe.data.resident == "auto" and recipe.data.max_left_out == 0,
        assumptions=_assumptions(hardware, device, probe, speed, cores),
    )


def _precision(recipe: TrainRecipe, store: Store, gpu: str, device: Device) -> str:
    """The number format a step would be computed in on that device; on this CPU it is tried, as training does.

    Raises:
        UsageError: the recipe requests CUDA and the plan the CPU, or for a precision that the CPU computes wrong.
    """
    if gpu != "cpu":
        return device.half if recipe.precision == "auto" else recipe.precision
    if recipe.device == "cuda":
        raise UsageError("the recipe says device = 'cuda' and --gpu is cpu; name the GPU, for example --gpu a100")
    compute = settle(
        choose_compute("cpu", recipe.precision),
        recipe.precision,
        new_model(recipe, store),
        {name: store.layout(name).shape for name in recipe.data.arrays},
        num_scans=scans_at_once(recipe.data, cache_chunk=recipe.optim.cache_chunk),
    )
    return name_of(compute.dtype)


def _assumptions(hardware: Hardware, device: Device, probe: Probe, speed: StepSpeed, cores: int) -> tuple[str, ...]:
    if speed.basis == "derived":
        compute = f"compute is derived, not measured ({device.source}): {' '.join(hardware.assumed.source.split())}"
    else:
        compute = f"compute is measured ({device.source}), scaled by voxels"
    given = hardware.network.latency_ms is not None
    where = (
        "given in the table" if given else f"measured from this machine on {len(probe.latency_s)} rows, one at a time"
    )
    if speed.basis == "derived":
        compute += f"; intervals let it be off by a factor of {hardware.assumed.derived_within:g} either way"
    sentences = [compute, f"latency is {where}, and does not rise with the number of requests at once"]
    if probe.protocol not in ("file", "memory"):
        sentences.append(f"bandwidth is {hardware.network.bandwidth_mb_s:g} MB/s ({hardware.network.source})")
    sentences.append(
        f"fetching and decoding were timed on this machine, which has {cores} cores, none taken by the training"
    )
    sentences.append(
        f"embedding takes {hardware.assumed.forward_share:.0%} of a training step a volume; start-up takes "
        f"{hardware.assumed.startup_s:g} s; no cache, nothing kept in memory, no failed request, no preemption"
    )
    return tuple(sentences)
