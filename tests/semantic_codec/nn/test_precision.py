"""bfloat16 is used where the processor multiplies it faster than float32, and there alone."""

import pytest
import torch

from semantic_codec.nn import precision


INTEL, AMD = {"avx512_bf16": True, "cpu_name": "Intel Xeon"}, {"avx512_bf16": True, "cpu_name": "AMD EPYC"}


@pytest.mark.parametrize(
    ("known", "wanted"),
    [({}, False), ({"avx2": True}, False), (INTEL, False), (INTEL | {"amx_bf16": True}, True), (AMD, True), ({"bf16": True}, True)],
)
def test_products_are_in_the_precision_that_the_processor_has(monkeypatch, known, wanted):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    layer = torch.nn.Linear(4, 4)
    with precision.in_half():
        assert layer(torch.ones(1, 4)).dtype is (torch.bfloat16 if wanted else torch.float32)
    with precision.in_half(False):
        assert layer(torch.ones(1, 4)).dtype is torch.float32
