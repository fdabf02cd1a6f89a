"""Random views of volumes on the training device; the draws depend on seed, epoch and batch only, so views replay."""

from dataclasses import dataclass

import torch

from trainer.data.drawing import batch_seed


@dataclass(frozen=True, slots=True)
class Augment:
    """Draws one view a scan.

    Attributes:
        flip: probability of mirroring left and right.
        shift_voxels: largest whole-voxel shift along each axis; what moves in from outside is black.
        gain: largest relative change of all intensities.
        noise: largest standard deviation of added Gaussian noise.
        axes: a scan's axes: `CDHW` (left and right is D), `TCHW` (clips, frames stay in order) or `CHW` (left and right
            is W).
    """

    flip: float
    shift_voxels: int
    gain: float
    noise: float
    axes: str = "CDHW"

    def __call__(self, voxels_NCDHW: torch.Tensor, *, scale: float, seed: int, epoch: int, batch: int) -> torch.Tensor:
        """Views of a batch as float32, clipped to [0, 1].

        Args:
            voxels_NCDHW: stored voxels on the training device; moving them before they become float moves a quarter
                of the bytes.
            scale: what a stored value is multiplied by to lie in [0, 1].
            seed: the run's seed; the same seed, epoch and batch give the same views.
            epoch: counted from 0.
            batch: index of the batch in its epoch.
        """
        draws = self.draw(len(voxels_NCDHW), voxels_NCDHW[0].numel(), seed=seed, epoch=epoch, batch=batch)
        return draws.views(voxels_NCDHW, scale=scale)

    def draw(self, num_scans: int, num_voxels: int, *, seed: int, epoch: int, batch: int) -> "Draws":
        """What the views of a whole batch differ by, to be applied to all of it or to a part.

        Args:
            num_scans: scans of the whole batch.
            num_voxels: voxels of a scan, all channels.
            seed: the run's seed; the same seed, epoch and batch give the same views.
            epoch: counted from 0.
            batch: index of the batch in its epoch.
        """
        # Drawn on the CPU, so that a run sees the same views on every device.
        generator = torch.Generator().manual_seed(batch_seed(seed, epoch, batch))
        mirrored = (torch.rand(num_scans, generator=generator) < self.flip).tolist()
        reach = 2 * self.shift_voxels + 1
        shifts_N3 = torch.randint(reach, (num_scans, 3), generator=generator) - self.shift_voxels
        if self.axes != "CDHW":
            # Frames and channels are not moved: a clip's axes after T, and an image's after C, are W and H alone.
            shifts_N3[:, 0] = 0
        shifts = shifts_N3[:, 4 - len(self.axes) :].tolist()
        mirror_axis = {"CDHW": 1, "TCHW": 3, "CHW": 2}[self.axes]
        gains = (1 + self.gain * (2 * torch.rand(num_scans, generator=generator) - 1)).tolist()
        noises = (self.noise * torch.rand(num_scans, generator=generator)).tolist()
        if self.noise == 0:
            return Draws(mirrored, mirror_axis, shifts, gains, noises, grain=None, offsets=[])
        # One noise volume a batch, read from another offset for each scan: drawing normals for every voxel of a
        # batch costs as much as the training step on a CPU.
        grain = torch.randn(num_voxels, generator=generator).repeat(2)
        offsets = torch.randint(num_voxels, (num_scans,), generator=generator).tolist()
        return Draws(mirrored, mirror_axis, shifts, gains, noises, grain=grain, offsets=offsets)


@dataclass(frozen=True, slots=True)
class Draws:
    """The drawn parameters of a batch's views, one of each a scan.

    Attributes:
        mirrored: whether left and right are swapped.
        mirror_axis: axis of a scan that goes from left to right.
        shifts: whole voxels along each axis of a scan but the first.
        gains: factor of all intensities.
        noises: standard deviation of the noise.
        grain: the batch's noise volume, twice in a row; None without noise.
        offsets: where in it each scan starts to read.
    """

    mirrored: list[bool]
    mirror_axis: int
    shifts: list[list[int]]
    gains: list[float]
    noises: list[float]
    grain: torch.Tensor | None
    offsets: list[int]

    def views(self, voxels_NCDHW: torch.Tensor, *, scale: float, first: int = 0) -> torch.Tensor:
        """Views of the batch or of some neighbouring scans of it, as float32, clipped to [0, 1].

        Args:
            voxels_NCDHW: stored voxels on the training device.
            scale: what a stored value is multiplied by to lie in [0, 1].
            first: index of the first of these scans in the whole batch.
        """
        device = voxels_NCDHW.device
        views = torch.empty(voxels_NCDHW.shape, dtype=torch.float32, device=device)
        for index, stored_CDHW in enumerate(voxels_NCDHW):
            drawn = first + index
            voxels_CDHW = stored_CDHW.flip(self.mirror_axis) if self.mirrored[drawn] else stored_CDHW
            shift_scaled(voxels_CDHW, self.shifts[drawn], scale * self.gains[drawn], out=views[index])
        if self.grain is not None:
            grain = self.grain.to(device)
            num_voxels = views[0].numel()
            for index in range(len(views)):
                offset = self.offsets[first + index]
                grain_CDHW = grain[offset : offset + num_voxels].view(views.shape[1:])
                views[index].add_(grain_CDHW, alpha=self.noises[first + index])
        return views.clamp_(0, 1)


def shift_scaled(voxels_CDHW: torch.Tensor, shift_voxels: list[int], scale: float, *, out: torch.Tensor) -> None:
    """Write `scale` times the volume, moved by whole voxels along D, H and W, into `out`; what moves in is 0."""
    if any(shift_voxels):
        out.zero_()
    to, source = [slice(None)], [slice(None)]
    for shift in shift_voxels:
        to.append(slice(max(shift, 0), None if shift >= 0 else shift))
        source.append(slice(max(-shift, 0), None if shift <= 0 else -shift))
    # Copied before it is scaled: `torch.mul` into `out` would multiply float16 voxels in float16, and is slower.
    out[tuple(to)].copy_(voxels_CDHW[tuple(source)]).mul_(scale)
