"""BatchNorm with the statistics of a global batch that several processes share; torch's own needs CUDA.

Same parameters, buffers and names as BatchNorm2d and BatchNorm3d, so that checkpoints fit all.
"""

import torch
from torch import nn

from trainer.fit.distributed import Group


class SyncedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm2d or 3d whose training statistics are those of all processes' scans together.

    Mean first, then the mean squared distance from it: E[x^2] - mean^2 would lose digits where the mean is large.
    Two exchanges of C numbers each way; in evaluation mode none.

    Args:
        like: the layer to replace; its parameters and buffers are shared.
        group: the processes.
    """

    def __init__(self, like: nn.BatchNorm2d | nn.BatchNorm3d, group: Group) -> None:
        super().__init__(like.num_features, eps=like.eps, momentum=like.momentum)
        self.weight, self.bias = like.weight, like.bias
        self.running_mean, self.running_var = like.running_mean, like.running_var
        self.num_batches_tracked = like.num_batches_tracked
        self._group = group

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Any rank: the layer that it replaces was built for the right one."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, ...); statistics in float32 or above, the answer in the input's dtype."""
        if not self.training:
            return super().forward(input)
        features = input.to(torch.promote_types(input.dtype, torch.float32))
        axes = (0, *range(2, features.dim()))
        shape = (1, -1, *[1] * (features.dim() - 2))
        count = self._group.total(features.numel() / self.num_features)
        mean_C = self._group.sum(features.sum(axes)) / count
        centred = features - mean_C.view(shape)
        variance_C = self._group.sum(centred.square().sum(axes)) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean_C.detach(), self.momentum)
            self.running_var.lerp_(variance_C.detach() * count / max(count - 1, 1), self.momentum)
        factor_C = self.weight * (variance_C + self.eps).rsqrt()
        return (centred * factor_C.view(shape) + self.bias.view(shape)).to(input.dtype)


def synchronise(model: nn.Module, group: Group) -> None:
    """Exchange every BatchNorm of a model for a synchronised one, where there is more than one process."""
    if group.world_size == 1:
        return
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
                setattr(parent, name, SyncedBatchNorm(layer, group))
