"""Imports torchvision also where its compiled operators do not load (a CPU-only torch beside a CUDA torchvision).

Importing torchvision registers fake kernels for ``nms``; without the compiled library the schemas are unknown and the
import fails. Declaring them first is enough for data sets, transforms and classification models.
"""

import torch

try:
    import torchvision
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    _LIBRARY = torch.library.Library("torchvision", "DEF")
    _LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

datasets = torchvision.datasets
