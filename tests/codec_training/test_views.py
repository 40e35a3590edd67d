"""The teacher and its answers are made once for all runs that ask for the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from codec_training.checkpoint import load_checkpoint, save_checkpoint
from codec_training.config import LearningConfig
from codec_training.datasets import Dataset, Split, hold_out, load_dataset
from codec_training.teacher import Teacher, TeacherConfig, accuracy_percent, answers, shared_folder, train_teacher
from codec_training.views import Views
from semantic_codec.errors import ConfigError

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
        (replace(digits, train=Split(digits.train.images[::-1], digits.train.labels)), TeacherConfig()),
        (replace(digits, classes=digits.classes[::-1]), TeacherConfig()),
    ):
        other = shared_folder(dataset, config, tmp_path / "first")
        assert list(other.iterdir()) == []
    assert (shared_folder(digits, TeacherConfig(), tmp_path / "first") / "weights").read_text() == "trained"


def test_a_teacher_s_folder_in_a_copied_run_stays_and_is_compared(tmp_path, digits):
    config = TeacherConfig(epochs=1, batch=100, widths=(8, 8, 8))
    large = [Split(part.images[:200].repeat(4, 1).repeat(4, 2), part.labels[:200]) for part in (digits.train, digits.test)]
    dataset = Dataset("large", digits.classes, *large)
    (tmp_path / "run" / "teacher").mkdir(parents=True)
    folder = shared_folder(dataset, config, tmp_path / "run")
    assert not folder.is_symlink()
    train_teacher(dataset, config, folder)
    with pytest.raises(ConfigError, match="epochs 1, now 2; images "):
        train_teacher(replace(dataset, classes=digits.classes[::-1]), replace(config, epochs=2), folder)


def test_a_teacher_of_classes_that_a_mirror_exchanges_is_not_shown_mirrored_images(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    images = rng.integers(160, 240, (400, 16, 16, 3)).astype(np.uint8)
    for image, label in zip(images, labels):  # left or right is dark
        image[:, 8 * label : 8 * label + 8] //= 4
    dataset = Dataset("sides", ("left", "right"), Split(images, labels), Split(images, labels))
    config = TeacherConfig(epochs=8, batch=50, widths=(16, 16, 16), margin=0)
    folders = [shared_folder(dataset, config, tmp_path / str(mirror), mirror) for mirror in (True, False)]
    assert folders[0].resolve() != folders[1].resolve()
    right = [accuracy_percent(train_teacher(dataset, config, folder, mirror), dataset.train) for mirror, folder in zip((True, False), folders)]
    assert right[0] < 80 < 95 < right[1]


def test_images_too_small_for_a_teacher_are_refused(tmp_path, digits):
    with pytest.raises(ConfigError, match="images of 8x8; allowed: 9x9 and more"):
        train_teacher(digits, TeacherConfig(), tmp_path)


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


def test_known_logits_are_not_written_again_and_stay_whole_where_writing_fails(tmp_path, digits, monkeypatch):
    split = Split(digits.train.images[:50], digits.train.labels[:50])
    Views(split, CONFIG).distil(Mean(), tmp_path)
    (cache,) = tmp_path.iterdir()
    before = cache.stat().st_ino, cache.read_bytes()
    Views(split, CONFIG).distil(Mean(), tmp_path)
    assert (cache.stat().st_ino, cache.read_bytes()) == before

    def cut_off(file, _):
        file.write(b"half of it")
        raise OSError("no space left")

    monkeypatch.setattr(np, "save", cut_off)
    with pytest.raises(OSError, match="no space"):
        Views(split, replace(CONFIG, views=4)).distil(Mean(), tmp_path)
    assert cache.read_bytes() == before[1]


@pytest.mark.parametrize("size", [0, 100])
def test_answers_that_cannot_be_read_are_named(tmp_path, digits, size):
    Views(digits.train, CONFIG).distil(Mean(), tmp_path)
    (cache,) = tmp_path.iterdir()
    cache.write_bytes(cache.read_bytes()[:size])
    with pytest.raises(ConfigError, match=f"{cache} cannot be read .*fix: delete it: the teacher is asked again"):
        Views(digits.train, CONFIG).distil(Mean(), tmp_path)


@pytest.mark.parametrize("size", [0, 100, -100])
def test_a_checkpoint_that_cannot_be_read_is_named(tmp_path, size):
    save_checkpoint(tmp_path, 1, {}, model=nn.Linear(2, 2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "config.json"]
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ConfigError, match=f"{path} cannot be read .*fix: delete it and the folders of the stages after it"):
        load_checkpoint(tmp_path, model=nn.Linear(2, 2))


def test_an_epoch_has_every_image_once_with_the_answer_to_its_crop(tmp_path):
    split = Split(np.random.default_rng(0).integers(0, 256, (40, 6, 6, 3), np.uint8), np.arange(40))
    views = Views(split, LearningConfig(views=3, margin=2, mirror=False))
    views.distil(Mean(), tmp_path)
    batches = list(views.batches(10, torch.Generator().manual_seed(0)))
    assert torch.cat([batch.labels for batch in batches]).sort().values.tolist() == list(range(40))
    for batch in batches:
        assert torch.allclose(batch.teacher[:, 0], batch.images.float().mean((1, 2, 3)), rtol=1e-3)  # kept as float16


class Sides(Teacher):
    """Its two classes' logits: a pixel at the left edge, another at the right."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([images[:, 0, 0, 0], images[:, 0, -1, 1]], 1).float()


def test_a_teacher_answers_for_an_image_and_its_reflection_from_left_to_right():
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), np.uint8)
    shown = images[:, 0].astype(int)
    both = np.stack([shown[:, 0, 0] + shown[:, -1, 0], shown[:, -1, 1] + shown[:, 0, 1]], 1)
    assert (answers(Sides(2, (8, 8, 8)), images) == both.argmax(1)).all()
    assert (answers(Sides(2, (8, 8, 8), mirror=False), images) == (shown[:, -1, 1] > shown[:, 0, 0])).all()
