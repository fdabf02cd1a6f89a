"""The batches of a run as steps take them: planned, read, made into views, and labelled.

What a batch holds depends on seed, epoch and number only. Plan and labels are those of all processes together; each
process reads its part.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from trainer.data.augment import Augment
from trainer.data.drawing import batch_seed
from trainer.data.labels import Labels
from trainer.data.sampling import Batches, Sampler
from trainer.data.visits import VisitBatch, VisitStream
from trainer.fit.distributed import ALONE, Group
from trainer.fit.precision import Compute
from trainer.fit.step import Views
from trainer.fit.supply import Supply

Indices = npt.NDArray[np.int64]


class TrainingBatches:
    """The batches of every epoch.

        plan = batches.sampler.batches(epoch=0)
        with batches.read(plan) as stream:
            for indices_BK, read in zip(plan, stream):
                step.gradients(batches.views(indices_BK, read, epoch=0, batch=0), batches.labels(indices_BK))

    Args:
        sampler: plans them.
        supply: reads them.
        augment: by modality, the random views of it; other modalities are scaled alone. Of a modality that every visit
            has.
        num_views: views of each scan in a batch; a scan is read once for all of them.
        compute: device and number format.
        group: the processes that train together.
    """

    def __init__(
        self,
        sampler: Sampler,
        supply: Supply,
        *,
        augment: Mapping[str, Augment],
        num_views: int = 1,
        compute: Compute,
        group: Group = ALONE,
    ) -> None:
        self.sampler = sampler
        self.supply = supply
        self.num_views = num_views
        self._cohort = sampler.cohort
        self._augment = augment
        self._compute = compute
        self._group = group

    def read(self, plan: Batches) -> VisitStream:
        """This process's part of each batch, as stored, in the plan's order."""
        own = [indices_BK[self._group.share(len(indices_BK))] for indices_BK in plan]
        rows_N, presence_NM = self._cohort.rows_N, self._cohort.presence_NM
        return self.supply.stream(
            [rows_N[indices_BK] for indices_BK in own], [presence_NM[indices_BK.ravel()] for indices_BK in own]
        )

    def views(self, indices_BK: Indices, read: VisitBatch, *, epoch: int, batch: int) -> Views:
        """The views of what was read of a batch.

        Args:
            indices_BK: indices of the whole batch in the cohort, one for each scan.
            read: this process's part of them.
            epoch: counted from 0.
            batch: number of the batch in its epoch.
        """
        batch_views, sample_views = indices_BK.size * self.num_views, indices_BK.shape[1] * self.num_views
        draws = {
            name: augment.draw(
                batch_views, read.stored[name][0].numel(), seed=self.sampler.seed, epoch=epoch, batch=batch
            )
            for name, augment in self._augment.items()
        }
        first = self._group.share(len(indices_BK)).start * sample_views
        # Read once, seen several times: the views of a scan stand side by side, as the scans of a subject do.
        seed = batch_seed(self.sampler.seed, epoch, batch)
        return Views(read.repeated(self.num_views), self._compute, draws, first, seed)

    def labels(self, indices_BK: Indices) -> Labels:
        """The labels of a whole batch, one for each view."""
        return Labels.of(self._cohort, indices_BK.repeat(self.num_views, axis=1), self._compute.device)

    def subjects(self, indices_BK: Indices) -> list[str]:
        """Who is seen in this process's part of a batch, view by view."""
        own_BK = indices_BK[self._group.share(len(indices_BK))].repeat(self.num_views, axis=1)
        return [self._cohort.subject_ids[index] for index in own_BK.ravel()]
