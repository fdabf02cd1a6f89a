"""A pair of scans answered by BentoML: the same preprocessing and artefact, a worker process for each core.

ARTEFACT=FOLDER bentoml serve benchmarks.peers.bentoml_pairs:Pairs --port PORT
"""

import os
from pathlib import Path
from typing import Any

import bentoml
import torch
from threadpoolctl import threadpool_limits

from app.answers import answer_progression
from app.inputs import prepare
from app.registry import load_artefact
from preprocess.machine import num_cores


@bentoml.service(workers=num_cores(), traffic={"timeout": 60})
class Pairs:
    """One answer for each request."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        threadpool_limits(1)
        self.model = load_artefact(os.environ["ARTEFACT"])

    @bentoml.api
    def progression(self, earlier: Path, later: Path) -> dict[str, Any]:
        """The answer from the two files of the form."""
        recipe = self.model.manifest.inputs.volume_recipe
        scans = [prepare(path.read_bytes(), recipe, name="scan") for path in (earlier, later)]
        return answer_progression(self.model, *scans).model_dump(mode="json")
