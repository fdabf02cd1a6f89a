"""The 2D residual networks against MONAI's own forward pass and the published sizes."""

import pytest
import torch
from monai.networks.nets import resnet18, resnet50
from torch import nn

from trainer.encoders import ResNet18Image, ResNet50Image
from trainer.encoders.resnet2d import resnet_features

MONAI = {18: resnet18, 50: resnet50}
IMAGE_ENCODERS = {18: ResNet18Image, 50: ResNet50Image}


def num_parameters(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.mark.parametrize(("depth", "width", "published"), [(18, 512, 11_689_512), (50, 2048, 25_557_032)])
def test_features_and_a_thousand_classes_have_the_parameters_of_the_published_networks(depth, width, published):
    assert num_parameters(resnet_features(depth, in_channels=3), nn.Linear(width, 1000)) == published


@pytest.mark.parametrize(("depth", "stated"), [(18, 11_301_568), (50, 24_026_304)])
def test_encoders_have_the_parameters_their_pages_state(depth, stated):
    assert num_parameters(IMAGE_ENCODERS[depth]()) == stated


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_embedding_is_the_linear_map_of_what_monai_computes(depth, in_channels):
    torch.manual_seed(0)
    oracle = MONAI[depth](
        spatial_dims=2, n_input_channels=in_channels, conv1_t_stride=2, feed_forward=False, bias_downsample=False
    )
    images = torch.rand(4, in_channels, 40, 33)
    oracle(images)
    encoder = IMAGE_ENCODERS[depth](in_channels=in_channels, embedding_width=12).eval()
    encoder.features.load_state_dict(oracle.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), encoder.linear(oracle.eval()(images)), rtol=1e-5, atol=1e-6)


def test_names_are_those_of_public_weights():
    names = set(resnet_features(18, in_channels=3).state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer1.0.conv1.weight", "layer4.1.bn2.bias"} <= names
    assert {"layer2.0.downsample.0.weight", "layer2.0.downsample.1.running_mean"} <= names
    assert "layer2.0.downsample.0.bias" not in names
    # 20 convolutions, 20 normalisations with 2 parameters, 2 statistics and a counter.
    assert len(names) == 20 + 20 * 5


@pytest.mark.parametrize("depth", [18, 50])
def test_an_image_is_halved_five_times(depth):
    maps = resnet_features(depth, in_channels=1).eval()(torch.zeros(1, 1, 64, 96))
    assert maps.shape == (1, 512 if depth == 18 else 2048, 2, 3)


@pytest.mark.parametrize("depth", [18, 50])
def test_with_group_norm_every_normalisation_is_one_of_eight_groups(depth):
    by_norm = {norm: list(resnet_features(depth, in_channels=1, norm=norm).modules()) for norm in ("batch", "group")}
    num_batch = sum(isinstance(layer, nn.BatchNorm2d) for layer in by_norm["batch"])
    groups = [layer.num_groups for layer in by_norm["group"] if isinstance(layer, nn.GroupNorm)]
    assert groups == [8] * num_batch
    assert num_batch == {18: 20, 50: 53}[depth]
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in by_norm["group"])
