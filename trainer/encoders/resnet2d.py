"""2D residual networks of images: MONAI's ResNet-18 and ResNet-50 (He et al. 2016) with the stem of the 2D original.

MONAI's defaults are those of its 3D networks: the first convolution with stride 1 and a bias in the shortcut. Here it
is stride 2 and no bias, so that parameters have the number and the names that public ImageNet weights have. Its `norm`
argument reaches the stem alone (MONAI 1.6), so GroupNorm is put in after the network is built.
"""

from collections import OrderedDict
from typing import ClassVar, Literal

import torch
from torch import nn

from trainer.encoders.base import Encoder, NormName, put_group_norm

_FEATURE_WIDTH = {18: 512, 50: 2048}


def resnet_features(depth: Literal[18, 50], *, in_channels: int, norm: NormName = "batch") -> nn.Sequential:
    """The convolutional part of a 2D residual network, from images (B, C, H, W) to (B, F, H / 32, W / 32).

    F is 512 for depth 18 and 2048 for depth 50. Parts are called as in the original: conv1, bn1, layer1 to layer4.

    Args:
        depth: 18 or 50.
        in_channels: channels C of an image.
        norm: `batch` as published, or `group`; the layers are called bn in both.
    """
    # Here, not above: the import takes two seconds, and recipes with 3D encoders do not need it.
    from monai.networks.nets import resnet18, resnet50

    build = {18: resnet18, 50: resnet50}[depth]
    net = build(
        spatial_dims=2, n_input_channels=in_channels, conv1_t_stride=2, feed_forward=False, bias_downsample=False
    )
    names = ("conv1", "bn1", "act", "maxpool", "layer1", "layer2", "layer3", "layer4")
    features = nn.Sequential(OrderedDict((name, getattr(net, name)) for name in names))
    if norm == "group":
        put_group_norm(features)
    return features


class ImageEncoder(Encoder):
    """A residual network of images_BCHW, the mean over all positions, and a linear layer.

    Args:
        depth: 18 or 50.
        in_channels: channels C of an image, 1 or 3 as a rule.
        embedding_width: width E of the embedding.
        norm: `batch` or `group`.
    """

    input_axes: ClassVar[str] = "BCHW"
    memory_format: ClassVar[torch.memory_format] = torch.channels_last

    def __init__(
        self, depth: Literal[18, 50], *, in_channels: int = 1, embedding_width: int = 256, norm: NormName = "batch"
    ) -> None:
        super().__init__(
            resnet_features(depth, in_channels=in_channels, norm=norm),
            in_channels=in_channels,
            feature_width=_FEATURE_WIDTH[depth],
            embedding_width=embedding_width,
        )


class ResNet50Image(ImageEncoder):
    """ResNet-50 (2048 features) and a linear layer of width 256: g(f(x)) of ConPrO, whose h is the projector.

    24,026,304 parameters with one channel and width 256; arguments are those of `ImageEncoder` without the depth.
    """

    def __init__(self, *, in_channels: int = 1, embedding_width: int = 256, norm: NormName = "batch") -> None:
        super().__init__(50, in_channels=in_channels, embedding_width=embedding_width, norm=norm)


class ResNet18Image(ImageEncoder):
    """ResNet-18 (512 features) and a linear layer: 0.4 of the time of ResNet-50, for small CPUs.

    11,301,568 parameters with one channel and width 256; arguments are those of `ImageEncoder` without the depth.
    """

    def __init__(self, *, in_channels: int = 1, embedding_width: int = 256, norm: NormName = "batch") -> None:
        super().__init__(18, in_channels=in_channels, embedding_width=embedding_width, norm=norm)
