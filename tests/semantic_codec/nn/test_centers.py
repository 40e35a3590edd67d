import numpy as np
import pytest
import torch

from semantic_codec.nn.centers import Centers
from semantic_codec.nn.gdn import GDN


@pytest.fixture
def centers():
    torch.manual_seed(0)
    made = Centers(3)
    made.settle(torch.randn(4000), "searched")
    return made


def test_values_are_hard_and_gradients_reach_centers_and_latents(centers):
    latents = torch.randn(5, 7, requires_grad=True)
    levels, sent, usage = centers.quantize(latents)
    assert torch.allclose(sent, centers.values[levels])
    assert usage.shape == (8,) and float(usage.sum().detach()) == pytest.approx(1)
    (sent**2).sum().backward(retain_graph=True)
    assert latents.grad.abs().min() > 0 and centers.values.grad.abs().min() > 0
    centers.values.grad = None
    ((usage - 1 / 8) ** 2).sum().backward()
    assert centers.values.grad.abs().sum() > 0


def test_every_level_arrives_as_its_own_center(centers):
    levels = torch.arange(8)[None]
    signs = centers.signs(levels)
    assert signs.shape == (1, 24) and len(torch.unique(signs.view(8, 3), dim=0)) == 8
    for posterior in (False, True):
        assert torch.allclose(centers.received(signs, posterior), centers.values[levels])


def test_the_posterior_mean_is_that_of_simulated_flips(centers):
    ber, generator = 0.1, torch.Generator().manual_seed(1)
    levels = torch.multinomial(centers.usage, 400_000, replacement=True, generator=generator)
    signs = centers.signs(levels[:, None])
    received = torch.where(torch.rand(signs.shape, generator=generator) < ber, -signs, signs)
    seen = (received == torch.tensor([1.0, -1.0, 1.0])).all(1)
    expected = centers.values[levels[seen]].mean()
    found = centers.received(torch.tensor([[1.0, -1.0, 1.0]]) * (1 - 2 * ber), posterior=True)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), abs=0.02)


def test_a_symbol_that_did_not_arrive_is_the_mean_center(centers):
    mean = (centers.usage * centers.values).sum()
    for posterior in (False, True):
        assert torch.allclose(centers.received(torch.zeros(1, 3), posterior), mean)


def test_settling_sorts_and_measures():
    made = Centers(3)
    with torch.no_grad():
        made.values.copy_(torch.tensor([3.0, -3, 1, -1, 2, -2, 0.5, -0.5]))
    made.settle(torch.tensor([3.0, 3.1, -3.0, 0.4]), "gray")
    assert torch.equal(made.values, made.values.sort().values)
    assert made.usage.tolist() == [0.25, 0, 0, 0, 0.25, 0, 0, 0.5]
    assert made.index_map.tolist() == (np.arange(8) ^ np.arange(8) >> 1).tolist()


def test_inverse_gdn_undoes_a_fixed_norm():
    x = torch.randn(2, 4, 3, 3)
    forward, inverse = GDN(4), GDN(4, inverse=True)
    with torch.no_grad():
        for one in (forward, inverse):
            one.gamma.zero_()
            one.beta.fill_(2.0)
    assert torch.allclose(inverse(forward(x)), x, atol=1e-5)
    assert torch.allclose(forward(x), x / 2, atol=1e-5)
