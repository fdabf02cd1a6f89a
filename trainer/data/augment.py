"""Random views of volumes on the training device; the draws depend on seed, epoch and batch only, so views replay."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Augment:
    """Draws one view a scan.

    Attributes:
        flip: probability of mirroring left and right.
        shift_voxels: largest whole-voxel shift along each axis; what moves in from outside is black.
        gain: largest relative change of all intensities.
        noise: largest standard deviation of added Gaussian noise.
    """

    flip: float
    shift_voxels: int
    gain: float
    noise: float

    def __call__(self, volumes_NCDHW: torch.Tensor, *, seed: int, epoch: int, batch: int) -> torch.Tensor:
        """Views of a batch, clipped to [0, 1].

        Args:
            volumes_NCDHW: float volumes in [0, 1]; may be written to.
            seed: of the run.
            epoch: counted from 0.
            batch: place of the batch in its epoch.
        """
        num_scans = len(volumes_NCDHW)
        device = volumes_NCDHW.device
        # Scalars are drawn on the CPU, so that a run sees the same views on every device.
        host = torch.Generator().manual_seed(_mix(seed, epoch, batch))
        mirrored = (torch.rand(num_scans, generator=host) < self.flip).tolist()
        reach = 2 * self.shift_voxels + 1
        shifts = (torch.randint(reach, (num_scans, 3), generator=host) - self.shift_voxels).tolist()
        gains_N = 1 + self.gain * (2 * torch.rand(num_scans, generator=host) - 1)
        noises_N = self.noise * torch.rand(num_scans, generator=host)
        views = torch.empty_like(volumes_NCDHW)
        for place in range(num_scans):
            volume_CDHW = volumes_NCDHW[place].flip(1) if mirrored[place] else volumes_NCDHW[place]
            views[place] = shifted(volume_CDHW, shifts[place])
        views *= gains_N.to(device).view(-1, 1, 1, 1, 1)
        if self.noise > 0:
            # One noise volume a batch, rolled to another place for each scan: drawing normals for every voxel of a
            # batch costs as much as the training step on a CPU.
            grain_CDHW = torch.randn(views.shape[1:], generator=host).to(device, views.dtype)
            offsets = torch.randint(grain_CDHW[0].numel(), (num_scans,), generator=host).tolist()
            for place in range(num_scans):
                views[place].add_(grain_CDHW.roll(offsets[place]), alpha=float(noises_N[place]))
        return views.clamp_(0, 1)


def shifted(volume_CDHW: torch.Tensor, shift_voxels: list[int]) -> torch.Tensor:
    """The volume moved by whole voxels along D, H and W; what moves in is 0."""
    if not any(shift_voxels):
        return volume_CDHW
    moved = torch.zeros_like(volume_CDHW)
    to, source = [slice(None)], [slice(None)]
    for shift in shift_voxels:
        to.append(slice(max(shift, 0), None if shift >= 0 else shift))
        source.append(slice(max(-shift, 0), None if shift <= 0 else -shift))
    moved[tuple(to)] = volume_CDHW[tuple(source)]
    return moved


def _mix(seed: int, epoch: int, batch: int) -> int:
    """One seed from three numbers, far apart for neighbours (multiplier: Knuth, MMIX)."""
    mixed = 0
    for part in (seed, epoch, batch):
        mixed = (mixed * 6364136223846793005 + part + 1442695040888963407) % 2**62
    return mixed
