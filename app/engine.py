"""Inference with a loaded program: stored scans in, embeddings and answers out; safe from many threads."""

import threading
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from preprocess.transforms import unit_scale
from preprocess.types import FloatArray
from preprocess.voxel_shares import share_of_line


class Program(Protocol):
    """What model.ts offers: `embed`, and what its kind answers; scans are float32 in [0, 1].

    That is `severity`, or `compare` and `judge`; programs of earlier versions lack `judge`.
    """

    def embed(self, volumes_BCDHW: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, E)."""

    def severity(self, scans_B: torch.Tensor) -> torch.Tensor:
        """Distance from normal (B,)."""

    def compare(self, earlier_BCDHW: torch.Tensor, later_BCDHW: torch.Tensor) -> torch.Tensor:
        """Probabilities (B, 3) of improved, stable, declined."""

    def judge(self, differences_BE: torch.Tensor) -> torch.Tensor:
        """The same from later minus earlier embeddings."""


class Engine:
    """Runs one program, one call at a time.

        engine = Engine(load_program(data))
        embeddings_BE = engine.embed(volumes_BCDHW)
        probabilities_B3 = engine.compare(earlier_BCDHW, later_BCDHW)

    Args:
        program: the TorchScript module, on the CPU, in eval mode.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        # TorchScript's profiling executor rewrites the graph during the first calls; one call uses all cores anyway.
        self._turn = threading.Lock()

    def embed(self, volumes_BCDHW: npt.NDArray[np.generic]) -> FloatArray:
        """Embed volumes in their stored dtype; for an artefact of severity, rows of its modality.

        Args:
            volumes_BCDHW: as `to_volume` gives them, or as the store holds them, stacked.

        Returns:
            float32, shape (B, E).
        """
        volumes = _unit_range(volumes_BCDHW)
        with self._turn, torch.inference_mode():
            return _plain(self._program.embed(volumes))

    def compare(self, earlier_BCDHW: npt.NDArray[np.generic], later_BCDHW: npt.NDArray[np.generic]) -> FloatArray:
        """Compare pairs of volumes in their stored dtype.

        Returns:
            float32 probabilities, shape (B, 3), in the order of `preprocess.types.PROGRESSIONS`.
        """
        earlier, later = _unit_range(earlier_BCDHW), _unit_range(later_BCDHW)
        with self._turn, torch.inference_mode():
            return _plain(self._program.compare(earlier, later))

    @property
    def can_judge(self) -> bool:
        """Whether probabilities come from embeddings alone; if not, `compare` embeds both scans anew."""
        return hasattr(self._program, "judge")

    def judge(self, differences_BE: FloatArray) -> FloatArray:
        """Compare pairs whose embeddings are there already; takes microseconds.

        Args:
            differences_BE: later minus earlier embedding, float32.

        Returns:
            float32 probabilities, shape (B, 3), in the order of `preprocess.types.PROGRESSIONS`.
        """
        differences = torch.from_numpy(np.ascontiguousarray(differences_BE, dtype=np.float32))
        with self._turn, torch.inference_mode():
            return _plain(self._program.judge(differences))

    def share_of_line(
        self,
        earlier_CDHW: npt.NDArray[np.generic],
        later_CDHW: npt.NDArray[np.generic],
        part: float,
        direction_E: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.float64]:
        """Difference of two volumes times the gradient of `direction . embedding` between them.

        Args:
            earlier_CDHW: in its stored dtype.
            later_CDHW: the same shape.
            part: where on the line, 0 at the earlier volume and 1 at the later one.
            direction_E: weights of the embedding.

        Returns:
            float64, the shape of a volume.
        """
        earlier, later = _unit_range(earlier_CDHW[None]), _unit_range(later_CDHW[None])
        with self._turn:
            return share_of_line(self._program.embed, earlier, later, part, direction_E)

    def severity(self, scans_B: npt.NDArray[np.generic]) -> FloatArray:
        """Distance from normal of rows in their stored dtype.

        Returns:
            float32, shape (B,), 0 to 2.
        """
        scans = _unit_range(scans_B)
        with self._turn, torch.inference_mode():
            return _plain(self._program.severity(scans))


def _unit_range(volumes_BCDHW: npt.NDArray[np.generic]) -> torch.Tensor:
    scale = np.float32(unit_scale(volumes_BCDHW.dtype.name))
    return torch.from_numpy(np.ascontiguousarray(volumes_BCDHW, dtype=np.float32) * scale)


def _plain(values: torch.Tensor) -> FloatArray:
    array: FloatArray = values.to(torch.float32).numpy()
    return array
