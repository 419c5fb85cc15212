import pytest
import torch
import torchvision

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def trained(network, seed=0):
    """A network with random weights and statistics, as after training."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator)
            value.copy_(noise + 0.5 if "running_var" in name else (noise - 0.5) * 0.2)
    return network.eval()


def features(network):
    """torchvision's own computation of the last feature map."""
    x = network.maxpool(network.relu(network.bn1(network.conv1(IMAGES))))
    return network.layer4(network.layer3(network.layer2(network.layer1(x)))).detach()


@pytest.fixture(scope="session")
def resnet18():
    return trained(torchvision.models.resnet18())


@pytest.fixture(scope="session")
def resnet50():
    return trained(torchvision.models.resnet50())
