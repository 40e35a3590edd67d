"""A stage under every optimizer: it learns, and stopping after any epoch changes nothing."""

import itertools
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from codec_training.config import LearningConfig
from codec_training.optimizers import OPTIMIZERS, Muon, optimizers_of, orthogonalized
from codec_training.stages import Stage, _warm_cosine, annealed, consistency_loss, task_loss
from codec_training.views import Batch
from semantic_codec.errors import ConfigError
from semantic_codec.nn.centers import Centers

STEPS = 5


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    mixing, depthwise = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8)
    return nn.Sequential(mixing, nn.BatchNorm2d(8), nn.ReLU(), depthwise, nn.Flatten(), nn.Linear(8 * 4 * 4, 2))


def _batches(epoch: int):
    generator = torch.Generator().manual_seed(epoch)
    for _ in range(STEPS):
        labels = torch.randint(2, (16,), generator=generator)
        yield torch.randn(16, 3, 8, 8, generator=generator) + labels[:, None, None, None], labels


class _Log:
    def add_scalar(self, *_):
        pass


FINGERPRINT = {"training.learning_rate": 3e-3, "images": "abc"}


class Stopped(Exception):
    pass


@dataclass(frozen=True)
class _Config:
    training: LearningConfig


def _train(folder, optimizer: str, stop_after: int | None = None, fingerprint=FINGERPRINT) -> tuple[nn.Module, list[float]]:
    """Four epochs; ``stop_after`` breaks off while the epoch after that many runs."""
    network, losses = _network(), []

    def loss_of(batch) -> torch.Tensor:
        if stop_after is not None and len(losses) == stop_after * STEPS + 2:
            raise Stopped
        hurt = nn.functional.dropout(batch[0], 0.1)  # drawn from torch's own generator, as flips are
        loss = nn.functional.cross_entropy(network(hurt), batch[1])
        losses.append(float(loss.detach()))
        return loss

    stage = Stage("only", _Config(LearningConfig(optimizer=optimizer)), folder, {"network": network}, _Log(), fingerprint)
    stage.run(4, 3e-3, STEPS, _batches, loss_of, dict)
    return network, losses


def test_a_stage_of_a_single_step_is_trained(tmp_path):
    network = _network()
    stage = Stage("only", _Config(LearningConfig()), tmp_path, {"network": network}, _Log(), FINGERPRINT)
    stage.run(1, 3e-3, 1, lambda epoch: itertools.islice(_batches(epoch), 1), lambda batch: network(batch[0]).square().mean(), dict)
    assert any(not torch.equal(now, before) for now, before in zip(network.parameters(), _network().parameters()))


def test_a_loss_that_is_no_number_ends_the_stage_and_says_where(tmp_path):
    network = _network()
    stage = Stage("only", _Config(LearningConfig()), tmp_path, {"network": network}, _Log(), FINGERPRINT)
    with pytest.raises(ConfigError, match="the loss of stage only is nan in epoch 1; .* lower its learning rate .* and delete .*only"):
        stage.run(1, 3e-3, STEPS, _batches, lambda batch: network(batch[0]).mean() * float("nan"), dict)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_stage_that_was_stopped_ends_as_if_it_had_not_been(tmp_path, optimizer):
    whole, losses = _train(tmp_path / "whole", optimizer)
    with pytest.raises(Stopped):
        _train(tmp_path / "parts", optimizer, stop_after=2)
    resumed, rest = _train(tmp_path / "parts", optimizer)
    assert rest == losses[2 * STEPS :] and losses[-1] < losses[0]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


@pytest.mark.parametrize(
    ("change", "message"),
    [({"training.learning_rate": 0.5}, "training.learning_rate 0.003, now 0.5; allowed"), ({"images": "abd"}, "images abc, now abd")],
)
def test_a_stage_of_other_settings_or_images_is_not_resumed(tmp_path, change, message):
    _train(tmp_path, "adamw")
    with pytest.raises(ConfigError, match=message):
        _train(tmp_path, "adamw", fingerprint=FINGERPRINT | change)
    assert _train(tmp_path, "adamw")[1] == []


def test_a_checkpoint_that_does_not_say_how_it_was_trained_is_not_resumed(tmp_path):
    _train(tmp_path, "adamw", fingerprint=None)
    with pytest.raises(ConfigError, match="does not say with which settings"):
        _train(tmp_path, "adamw")


def test_muon_takes_the_convolutions_that_mix_channels_and_no_parameter_twice():
    network = _network()
    optimizers = optimizers_of(network, "muon", 1e-3, 0.02)
    assert optimizers["muon_"].param_groups[0]["params"] == [network[0].weight]
    rest = [p for group in optimizers[""].param_groups for p in group["params"]]
    assert sorted(map(id, rest)) == sorted(id(p) for p in network.parameters() if p is not network[0].weight)
    assert list(optimizers_of(network, "adamw", 1e-3, 0.02)) == [""]


def test_muon_on_a_convolution_equals_torch_s_on_its_matrix():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(8, 4, 3, 3).to(memory_format=torch.channels_last))
    matrix = nn.Parameter(weight.detach().flatten(1).clone())
    ours = Muon([weight], 1e-2, 0.02)
    theirs = torch.optim.Muon([matrix], 1e-2, 0.02, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        weight.grad = torch.randn(8, 4, 3, 3)
        matrix.grad = weight.grad.flatten(1).clone()
        ours.step()
        theirs.step()
    # Theirs is in bfloat16; one step in a wrong direction would be 3 * 0.2 * 6 * 1e-2.
    torch.testing.assert_close(weight.detach().flatten(1), matrix.detach(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [(4, 20), (20, 4), (6, 6)])
def test_an_orthogonalized_matrix_keeps_its_directions_and_loses_their_sizes(shape):
    torch.manual_seed(1)
    matrix = torch.randn(shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    about = left.T @ orthogonalized(matrix) @ right.T
    assert (about - torch.diag(about.diag())).abs().max() < 0.02
    assert 0.6 < about.diag().min() and about.diag().max() < 1.25


def test_a_teacher_s_term_has_its_share_and_its_temperature():
    torch.manual_seed(0)
    logits, teacher = torch.randn(2, 16, 5)
    batch = Batch(torch.empty(0), torch.arange(16) % 5, teacher)
    alone, taught, both = (float(task_loss(logits, batch, LearningConfig(distil=share, teacher_temperature=2.0))) for share in (0.0, 1.0, 0.25))
    target = (teacher / 2).softmax(1)
    divergence = (target * (target.log() - (logits / 2).log_softmax(1))).sum(1).mean()
    assert alone == pytest.approx(float(F.cross_entropy(logits, batch.labels)))
    assert taught == pytest.approx(4 * float(divergence), rel=1e-4)  # Hinton's T^2 keeps its gradients as large as the labels'
    assert both == pytest.approx(0.75 * alone + 0.25 * taught, rel=1e-4)


def test_consistency_is_the_divergence_from_the_clean_answer_which_it_does_not_move():
    torch.manual_seed(0)
    clean, noisy = (torch.randn(8, 5, requires_grad=True) for _ in range(2))
    loss = consistency_loss(clean, noisy)
    p, q = clean.detach().softmax(1), noisy.detach().softmax(1)
    assert float(loss.detach()) == pytest.approx(float((p * (p / q).log()).sum(1).mean()), rel=1e-4)
    loss.backward()
    assert clean.grad is None and noisy.grad.abs().sum() > 0


def test_the_learning_rate_warms_up_and_falls_to_zero():
    share = _warm_cosine(100)
    assert [share(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    rest = [share(step) for step in range(5, 101)]
    assert rest == sorted(rest, reverse=True) and rest[0] == 1 and rest[-1] == pytest.approx(0)


def test_the_assignment_to_centers_gets_sharper_from_epoch_to_epoch():
    centers, seen = Centers(2), []
    epochs = annealed(lambda epoch: iter(()), centers, 3, (4.0, 36.0))
    for epoch in range(3):
        epochs(epoch)
        seen.append(centers.sharpness)
    assert seen == pytest.approx([4, 12, 36])


def test_biases_and_norms_do_not_decay():
    network = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    groups = optimizers_of(network, "adamw", 1e-3, 0.02)[""].param_groups
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert [decays[id(p)] for p in network.parameters()] == [0.02, 0, 0, 0]
