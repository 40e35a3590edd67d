import captum.attr
import pytest
import torch

from codec_training.families.attribution import asymmetry_loss, attributions


@pytest.fixture
def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(12, 16), torch.nn.Tanh(), torch.nn.Linear(16, 5))


def test_attributions_are_integrated_gradients_by_the_trapezoidal_rule(network):
    latents = torch.randn(4, 12, requires_grad=True)
    labels = torch.tensor([0, 3, 1, 4])
    found = attributions(lambda x: network(x).gather(1, labels[:, None])[:, 0], latents)
    reference = captum.attr.IntegratedGradients(network)
    expected = reference.attribute(latents, target=labels, n_steps=2, method="riemann_trapezoid")
    # Captum divides by the number of points, not by that of the intervals between them.
    assert torch.allclose(found, 2 * expected.float(), atol=1e-6)


def test_the_loss_moves_the_decoder_and_the_latents(network):
    latents = torch.randn(4, 12, requires_grad=True)
    asymmetry_loss(attributions(lambda x: network(x)[:, 0], latents)).backward()
    assert latents.grad.abs().sum() > 0 and network[0].weight.grad.abs().sum() > 0


def test_spread_attributions_lose_less_than_concentrated_ones():
    spread, concentrated = torch.full((1, 8), 0.5), torch.tensor([[4.0, *[-0.01] * 7]])
    assert asymmetry_loss(spread) < asymmetry_loss(concentrated)
    assert asymmetry_loss(spread * 4) < asymmetry_loss(spread)
