"""The teacher and its answers are made once for all runs that ask for the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from codec_training.config import LearningConfig
from codec_training.datasets import Dataset, Split, hold_out, load_dataset
from codec_training.teacher import TeacherConfig, shared_folder
from codec_training.views import Views

CONFIG = LearningConfig(views=2, margin=1)


class Mean(nn.Module):
    """A teacher that answers with the crop's mean and counts whom it is asked about."""

    asked = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.asked += len(images)
        return images.float().mean((1, 2, 3))[:, None]


@pytest.fixture
def digits() -> Dataset:
    return hold_out(load_dataset("digits"), 200)


def test_runs_that_ask_for_one_teacher_share_its_folder(tmp_path, digits):
    first = shared_folder(digits, TeacherConfig(), tmp_path / "first")
    (first / "weights").write_text("trained")
    assert (shared_folder(digits, TeacherConfig(), tmp_path / "second") / "weights").read_text() == "trained"
    assert (shared_folder(digits, TeacherConfig(), tmp_path / "first") / "weights").read_text() == "trained"
    for dataset, config in (
        (digits, TeacherConfig(epochs=3)),
        (hold_out(load_dataset("digits"), 100), TeacherConfig()),
        (replace(digits, name="folder:/some/parts"), TeacherConfig()),
    ):
        other = shared_folder(dataset, config, tmp_path / f"{dataset.name[-5:]}{config.epochs}{len(dataset.train)}")
        assert list(other.iterdir()) == []


def test_a_link_to_a_folder_that_is_gone_is_made_anew(tmp_path, digits):
    folder = shared_folder(digits, TeacherConfig(), tmp_path / "run")
    folder.resolve().rmdir()
    assert shared_folder(digits, TeacherConfig(), tmp_path / "run").is_dir()


def test_a_teacher_looks_at_each_crop_once(tmp_path, digits):
    split = Split(digits.train.images[:50], digits.train.labels[:50])
    teacher = Mean()
    one, two, again, other = (Views(split, replace(CONFIG, **change)) for change in ({"views": 1}, {}, {"views": 1}, {"seed": 1}))
    for views, asked in ((one, 50), (two, 100), (again, 100), (two, 100), (other, 200)):
        views.distil(teacher, tmp_path)
        assert teacher.asked == asked
        index = torch.arange(50)
        for view in range(views.count):
            crops = views.images(index, torch.full_like(index, view), torch.zeros(50, dtype=torch.bool))
            assert np.allclose(views.teacher_logits[view, :, 0], crops.float().mean((1, 2, 3)), rtol=1e-2)
