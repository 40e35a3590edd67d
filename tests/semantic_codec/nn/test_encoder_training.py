"""From floats to integers: each step computes nearly what the one before did."""

import pytest
import torch

from semantic_codec.encoder_format import ADD_KEPT, EncoderProgram
from semantic_codec.errors import ConfigError
from semantic_codec.nn.encoder import BlockConfig, EncoderConfig, FloatEncoder, layer_shapes
from semantic_codec.nn.integer import IntegerReference
from semantic_codec.nn.quantized import QuantizedEncoder
from semantic_codec.nn.quantizer import binarize

CONFIG = EncoderConfig(
    16, 16, 8,
    (BlockConfig("residual", 8), BlockConfig("conv", 12, 2), BlockConfig("inverted", 12, expand=24), BlockConfig("inverted", 12, expand=24)),
    4,
)  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    """An encoder whose norms have seen images, residual branches included."""
    torch.manual_seed(0)
    encoder = FloatEncoder(CONFIG)
    for layer, shape in zip(encoder.layers, encoder.shapes):
        if shape.flags & ADD_KEPT:
            torch.nn.init.constant_(layer.norm.weight, 0.5)
    images = (torch.rand(64, 16, 16, 3).cumsum(1) * 32).clamp(0, 255).to(torch.uint8)
    for _ in range(60):
        encoder(images)
    return encoder.eval(), images


def share_equal(a, b):
    return ((a >= 0) == (b >= 0)).float().mean()


def test_simulated_integers_keep_nearly_all_signs(trained):
    encoder, images = trained
    quantized = QuantizedEncoder.from_float(encoder, images)
    assert share_equal(binarize(encoder(images)), binarize(quantized(images))) > 0.95


def test_exported_integers_keep_nearly_all_simulated_signs(trained):
    encoder, images = trained
    quantized = QuantizedEncoder.from_float(encoder, images)
    program = EncoderProgram.from_bytes(quantized.export().to_bytes())
    symbols = IntegerReference(program)(images).float() * 2 - 1
    assert share_equal(symbols, binarize(quantized(images))) > 0.97


def test_a_layer_that_died_is_named():
    encoder = FloatEncoder(EncoderConfig(8, 8, 4, (BlockConfig("conv", 6, 1),), 2)).eval()
    torch.nn.init.constant_(encoder.layers[1].norm.bias, -100.0)
    images = torch.randint(0, 256, (64, 8, 8, 3), dtype=torch.uint8)
    with pytest.raises(ConfigError, match="layer 1 of the encoder answers 0 to every image; .*fix: lower learning_rate .*delete the folders"):
        QuantizedEncoder.from_float(encoder, images)


def test_a_threshold_is_the_first_sum_at_which_the_latent_is_not_negative(trained):
    quantized = QuantizedEncoder.from_float(*trained)
    last = quantized.layers[-1]
    unit = float(quantized.layers[-2].scale) * last.weight_scale().double().numpy()
    zero = -last.bias.detach().double().numpy() / unit  # the sum, in the accumulator's units, at which the latent is 0
    thresholds = quantized.export().layers[-1].thresholds[:, 0]
    assert (thresholds >= zero).all() and (thresholds - 1 < zero).all()


@pytest.mark.parametrize("gain", [0.0, 1e-6, 1e-4, 1e-3])
def test_a_channel_that_hardly_depends_on_its_input_is_exported(gain):
    torch.manual_seed(0)
    encoder = FloatEncoder(EncoderConfig(8, 8, 4, (BlockConfig("conv", 6, 1),), 2)).eval()
    with torch.no_grad():
        encoder.layers[0].norm.weight[0], encoder.layers[0].norm.bias[0] = gain, 0.5
    images = torch.randint(0, 256, (64, 8, 8, 3), dtype=torch.uint8)
    quantized = QuantizedEncoder.from_float(encoder, images)
    program = EncoderProgram.from_bytes(quantized.export().to_bytes())
    symbols = IntegerReference(program)(images).float() * 2 - 1
    assert share_equal(symbols, binarize(quantized(images))) > 0.97


def test_all_that_is_added_to_one_another_has_one_scale(trained):
    quantized = QuantizedEncoder.from_float(*trained)
    flagged = [index for index, shape in enumerate(quantized.shapes) if shape.flags & ADD_KEPT]
    scales = [float(layer.scale) for layer in quantized.layers]
    assert scales[flagged[0]] == scales[0]
    assert scales[flagged[1]] == scales[flagged[2]] == scales[3]


def test_gradients_reach_every_weight_of_the_simulated_integers(trained):
    encoder, images = trained
    quantized = QuantizedEncoder.from_float(encoder, images)
    quantized(images).square().sum().backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in quantized.layers)


def test_binarize_clips_its_gradient():
    latents = torch.tensor([[-2.0, -0.5, 0.0, 3.0]], requires_grad=True)
    signs = binarize(latents)
    signs.sum().backward()
    assert signs.tolist() == [[-1, -1, 1, 1]]
    assert latents.grad.tolist() == [[0, 1, 1, 0]]


def test_impossible_blocks_are_refused():
    with pytest.raises(ConfigError, match="on 8 channels"):
        layer_shapes(EncoderConfig(8, 8, 8, (BlockConfig("residual", 9),), 4))
