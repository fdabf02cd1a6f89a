"""A pair of scans answered by LitServe: the same preprocessing and artefact, a worker process for each core.

python -m benchmarks.peers.litserve_pairs ARTEFACT PORT
"""

import sys
from typing import Any

import litserve
import torch
from fastapi import Request
from threadpoolctl import threadpool_limits

from app.answers import answer_progression
from app.inputs import prepare
from app.registry import load_artefact
from preprocess.machine import num_cores


class Pairs(litserve.LitAPI):
    """One answer for each request."""

    def setup(self, device: str) -> None:  # noqa: ARG002  # LitServe's signature
        """Load the artefact in the worker, which has one thread as its neighbours have."""
        torch.set_num_threads(1)
        threadpool_limits(1)
        self.model = load_artefact(sys.argv[1])

    def decode_request(self, request: Request) -> Any:
        """The two files of the form, decoded and resampled."""
        recipe = self.model.manifest.inputs.volume_recipe
        return [prepare(request[part].file.read(), recipe, name=part) for part in ("earlier", "later")]  # type: ignore[index]

    def predict(self, scans: Any) -> Any:
        """The answer."""
        return answer_progression(self.model, *scans).model_dump(mode="json")

    def encode_response(self, output: Any) -> Any:
        """As it is."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Pairs(), accelerator="cpu", devices=1, workers_per_device=num_cores(), timeout=60)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), num_api_servers=1, generate_client_file=False)
