"""The dated table of devices, prices and assumptions: read from hardware.toml, with the user's own table over it."""

import datetime
import difflib
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from preprocess.errors import UsageError
from preprocess.recipe import Recipe, parse, read_toml

EDGE = 96
"""`step_ms`, `views_ms` and `scale_ms` of the table are of volumes of this edge; others are scaled by their voxels."""


class Price(Recipe):
    """List price of one device in one cloud, on demand."""

    machine: str
    usd_per_hour: float = Field(gt=0)
    date: datetime.date
    source: str


class StoragePrice(Recipe):
    """List price of reading from one kind of bucket.

    Attributes:
        usd_per_thousand_reads: requests that read an object.
        usd_per_gb_out: bytes that leave the bucket's region.
    """

    usd_per_thousand_reads: float = Field(ge=0)
    usd_per_gb_out: float = Field(ge=0)
    date: datetime.date
    source: str


class Network(Recipe):
    """What the probe cannot see.

    Attributes:
        bandwidth_mb_s: between the store and the machine that trains, 1e6 bytes a second.
        latency_ms: mean latency of one read on the machine that trains; the probe's own when not given.
    """

    bandwidth_mb_s: float = Field(gt=0)
    latency_ms: float | None = Field(default=None, gt=0)
    source: str


class Assumed(Recipe):
    """Fractions and overheads behind every derived value.

    Attributes:
        flops_fraction: part of the published peak that a training step reaches.
        bandwidth_fraction: part of the published memory bandwidth that it reaches.
        traffic_factor: how often each byte saved for the backward pass crosses device memory in a step.
        view_passes: how often each float32 voxel of a view crosses it.
        host_us_per_volume: launching the kernels of one scan's view.
        host_ms_per_step: launching those of one training step.
        forward_share: part of a training step that embedding alone takes.
        activation_factor: peak of activations and their gradients over what is saved for the backward pass.
        derived_within: factor by which a derived speed may be off; widens the intervals.
        context_gb: device memory of the driver and the libraries.
        startup_s: from the command to the first step.
    """

    flops_fraction: float = Field(gt=0, le=1)
    bandwidth_fraction: float = Field(gt=0, le=1)
    traffic_factor: float = Field(gt=0)
    view_passes: float = Field(ge=0)
    host_us_per_volume: float = Field(ge=0)
    host_ms_per_step: float = Field(ge=0)
    forward_share: float = Field(gt=0, le=1)
    activation_factor: float = Field(ge=1)
    derived_within: float = Field(ge=1)
    context_gb: float = Field(ge=0)
    startup_s: float = Field(ge=0)
    source: str


class Device(Recipe):
    """One device.

    Attributes:
        name: in words.
        basis: whether its speed was measured, or derived from the published values below.
        source: where its values come from.
        half: what precision = `auto` means on it.
        memory_gb: 1e9 bytes; this machine's own memory when not given.
        tensor_tflops: published dense peak in bfloat16 (float16 where there is none).
        float32_tflops: published dense peak of float32 convolutions (TF32 where there is one).
        bandwidth_gb_s: published memory bandwidth.
        step_ms: measured training step by encoder and precision, ms a volume of 96^3; wins over what is derived.
        views_ms: measured, drawing the views of a volume, added to `step_ms` where the recipe draws any.
        scale_ms: measured, scaling a volume to [0, 1], added where it draws none.
        step_overhead_ms: measured, what a step costs whatever the volumes (optimiser, objectives, reading), added to
            `step_ms`; a small part of it is in `step_ms` already.
        prices: by cloud.
    """

    name: str
    basis: Literal["measured", "derived"]
    source: str
    half: Literal["bfloat16", "float16"] = "bfloat16"
    memory_gb: float | None = Field(default=None, gt=0)
    tensor_tflops: float | None = Field(default=None, gt=0)
    float32_tflops: float | None = Field(default=None, gt=0)
    bandwidth_gb_s: float | None = Field(default=None, gt=0)
    step_ms: dict[str, dict[str, float]] = Field(default_factory=dict)
    views_ms: float = Field(default=0.0, ge=0)
    scale_ms: float = Field(default=0.0, ge=0)
    step_overhead_ms: float = Field(default=0.0, ge=0)
    prices: dict[str, Price] = Field(default_factory=dict)


class Hardware(Recipe):
    """The whole table."""

    date: datetime.date
    network: Network
    assumed: Assumed
    devices: dict[str, Device]
    storage: dict[str, StoragePrice] = Field(default_factory=dict)

    def device(self, name: str) -> Device:
        """The device of that name.

        Raises:
            UsageError: there is none; names the nearest.
        """
        if name not in self.devices:
            near = difflib.get_close_matches(name.lower(), self.devices, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(self.devices)}"
            raise UsageError(f"--gpu {name}: no such device in the table; {hint} (--price-table FILE adds others)")
        return self.devices[name]


def load_hardware(price_table: str | None = None) -> Hardware:
    """The table that comes with interscan, with another one merged over it, table by table.

    Args:
        price_table: path of a TOML file with the same keys, any part of them.

    Raises:
        UsageError: no such file, an unknown key or a value out of range.
    """
    own = Path(str(resources.files("trainer") / "plan" / "hardware.toml"))
    table = read_toml(own)
    if price_table is not None:
        table = _merged(table, read_toml(Path(price_table)))
    where = price_table or str(own)
    # Part by part first: what `parse` says of a whole table does not know which keys a part of it may have.
    for name, device in _parts(table, "devices"):
        for cloud, price in _parts(device, "prices"):
            parse(Price, price, where=f"{where}: devices.{name}.prices.{cloud}")
        parse(Device, device, where=f"{where}: devices.{name}")
    for protocol, price in _parts(table, "storage"):
        parse(StoragePrice, price, where=f"{where}: storage.{protocol}")
    return parse(Hardware, table, where=where)


def _parts(table: dict[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
    """The tables below a key, by name; what is none is left to the whole table's validation."""
    below = table.get(key)
    return [(name, part) for name, part in below.items() if isinstance(part, dict)] if isinstance(below, dict) else []


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` over `below`: tables are merged, anything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
