"""Mean and standard deviation of a modality's values over given rows, streamed; for the training subjects' arrays."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from preprocess.errors import StoreError
from preprocess.store import Store
from trainer.data.cohort import Rows
from trainer.data.reader import VolumeReader
from trainer.data.stream import StreamOptions, VolumeStream

_BATCH = 16


@dataclass(frozen=True, slots=True)
class Standard:
    """What standardised values are made with: (value - mean) / sd.

    Attributes:
        mean: per feature, shape (F,), or () for one of all values.
        sd: likewise, above 0: a feature that never changes has 1.
    """

    mean: npt.NDArray[np.float64]
    sd: npt.NDArray[np.float64]


def standard_shape(row_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the mean of a modality's rows.

    Columns of a vector (F,) or a table (R, F) are quantities of their own, each with its unit. The entries of a square
    matrix (a connectome) are one quantity, whose differences between regions are what is to be seen.
    """
    is_square = len(row_shape) == 2 and row_shape[0] == row_shape[1]
    return () if is_square else (row_shape[-1],)


def fit_standard(store: Store, modality: str, rows_N: Rows, *, reader: VolumeReader | None = None) -> Standard:
    """Mean and sd over rows of a modality of arrays, float64.

    Args:
        store: where the rows are.
        modality: with rows of shape (F,) or (R, F).
        rows_N: store rows of the training subjects, all present, at least one.
        reader: whose cache and resident rows serve.

    Raises:
        StoreError: a row holds NaN or infinity, is missing or damaged.
    """
    row_shape = store.layout(modality).shape
    axes = tuple(range(1 + len(row_shape) - len(standard_shape(row_shape))))
    count, mean, spread = 0, np.zeros(standard_shape(row_shape)), np.zeros(standard_shape(row_shape))
    batches = [rows_N[start : start + _BATCH] for start in range(0, len(rows_N), _BATCH)]
    with VolumeStream(store, modality, batches, StreamOptions(reuse=True), reader=reader) as stream:
        for batch_B, stored in zip(batches, stream, strict=True):
            values = stored.numpy().astype(np.float64)
            finite_B = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            if not finite_B.all():
                raise StoreError(
                    f"{store.location.uri}: row {batch_B[~finite_B][0]} of {modality} holds NaN or infinity; mend or "
                    "leave out its file, and preprocess into a new store"
                )
            # Chan, Golub and LeVeque 1979: means and sums of squares of two parts, joined without cancellation.
            num = values.size // mean.size
            own_mean = values.mean(axis=axes)
            shift = own_mean - mean
            spread = (
                spread + np.square(values - own_mean).sum(axis=axes) + np.square(shift) * count * num / (count + num)
            )
            mean = mean + shift * num / (count + num)
            count += num
    sd = np.sqrt(spread / count)
    return Standard(np.asarray(mean), np.where(sd > 0, sd, 1.0))
