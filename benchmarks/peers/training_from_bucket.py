"""Real CPU training from the bucket against the same training from RAM: utilisation as the ratio of the two times.

Nothing else in the machine computes but the two cores that train, so every millisecond of reading is taken from them;
beside a GPU it is not. The ways take turns, the least time of each counts. A third way is what the trainer does with a
cohort that fits into memory: the first pass comes from the bucket, and what is timed is a later one.
"""

import json
import sys
import time
from collections.abc import Iterable

import numpy as np
import torch

from benchmarks.peers.job import Job
from preprocess.store import Store
from trainer.data.reader import VolumeReader
from trainer.data.stream import StreamOptions, VolumeStream
from trainer.encoders import EncoderName, build_encoder
from trainer.fit.precision import choose_compute

_TURNS = 3
MODALITY = "T1w"
SHARES: dict[EncoderName, int] = {"fast": 1, "reference": 8}
"""The slower encoder is given a part of the volumes, one over this."""


class Trainer:
    """Steps of an encoder at the trainer's own precision.

    Args:
        name: of the encoder.
    """

    def __init__(self, name: EncoderName) -> None:
        torch.manual_seed(0)
        self._compute = choose_compute("cpu", "auto" if name == "fast" else "float32")
        encoder = build_encoder(name, in_channels=1, embedding_width=256)
        self._encoder = encoder.to(memory_format=torch.channels_last_3d) if name == "fast" else encoder  # type: ignore[call-overload]
        self._optimiser = torch.optim.AdamW(self._encoder.parameters(), lr=1e-4, fused=True)

    def train(self, batches: Iterable[torch.Tensor]) -> float:
        """Seconds that a pass takes, waiting included."""
        begun = time.perf_counter()
        for batch_uint8 in batches:
            volumes = batch_uint8.float().mul_(1 / 255)
            self._optimiser.zero_grad()
            with self._compute.autocast():
                embeddings = self._encoder(volumes)
            embeddings.float().square().mean().backward()
            self._optimiser.step()
        return time.perf_counter() - begun


def compare(job: Job, name: EncoderName) -> dict[str, float]:
    """Least milliseconds a volume from RAM, from the bucket and from kept volumes, and ratios over RAM."""
    store = Store.open(f"gs://{job.bucket}/store", job.gs_options)
    plan = [np.array(rows) for rows in job.batches_of_rows()]
    plan = plan[: max(2, len(plan) // SHARES[name])]
    trainer = Trainer(name)
    distant = VolumeReader(store, MODALITY, in_flight=job.in_flight)
    cohort_bytes = len(store.records) * distant.layout.num_bytes
    keeping = VolumeReader(store, MODALITY, in_flight=job.in_flight, resident_bytes=cohort_bytes)

    def stream(reader: VolumeReader) -> VolumeStream:
        return VolumeStream(store, MODALITY, plan, StreamOptions(in_flight=job.in_flight, reuse=True), reader=reader)

    with stream(keeping) as first:
        in_ram = [voxels.clone() for voxels in first]
    trainer.train(in_ram[:1])
    seconds: dict[str, list[float]] = {"ram": [], "bucket": [], "kept": []}
    for _ in range(_TURNS):
        seconds["ram"].append(trainer.train(in_ram))
        for way, reader in (("bucket", distant), ("kept", keeping)):
            with stream(reader) as batches:
                seconds[way].append(trainer.train(batches))
    distant.close()
    keeping.close()
    num = sum(map(len, plan))
    return {
        "volumes": num,
        **{f"{way}_ms_per_volume": 1000 * min(taken) / num for way, taken in seconds.items()},
        "au": min(seconds["ram"]) / min(seconds["bucket"]),
        "au_kept": min(seconds["ram"]) / min(seconds["kept"]),
    }


if __name__ == "__main__":
    torch.set_num_threads(2)
    print(json.dumps({name: compare(Job(**json.loads(sys.argv[1])), name) for name in SHARES}))
