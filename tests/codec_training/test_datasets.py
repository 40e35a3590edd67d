import io
import os
import shutil

import numpy as np
import pytest
from PIL import Image, features

from codec_training.datasets import Dataset, Split, data_folder, hold_out, load_dataset
from semantic_codec.errors import ConfigError, InvalidRequest, NotFound


def test_digits_are_split_once_and_for_all():
    digits = load_dataset("digits")
    assert digits.shape == (8, 8, 3) and len(digits.train) == 1347 and len(digits.test) == 450
    assert digits.train.images.dtype == np.uint8 and digits.train.images.max() == 255
    again = load_dataset("digits")
    assert (again.test.images == digits.test.images).all()


def test_held_out_images_leave_the_training_split():
    digits = hold_out(load_dataset("digits"), 200)
    assert len(digits.validation) == 200 and len(digits.train) == 1147
    whole = np.sort(np.concatenate([digits.train.images, digits.validation.images]).reshape(1347, -1), axis=0)
    assert (whole == np.sort(load_dataset("digits").train.images.reshape(1347, -1), axis=0)).all()


@pytest.mark.parametrize("count", [-5, 0, 1347, 5000])
def test_a_validation_split_that_leaves_nothing_is_refused(count):
    with pytest.raises(ConfigError, match=f"validation is {count}, digits has 1347 training images"):
        hold_out(load_dataset("digits"), count)


def test_a_class_of_which_all_images_are_held_out_is_named():
    labels = np.array([0, 1, 1, 1, 1, 1])
    dataset = Dataset("parts", ("rare", "good"), Split(np.zeros((6, 2, 2, 3), np.uint8), labels), Split(np.zeros((2, 2, 2, 3), np.uint8), labels[:2]), mixed=True)
    with pytest.raises(ConfigError, match="the class 'rare' of parts has no training image; .*fix: add images, or hold out fewer than 1 in"):
        hold_out(dataset, 1)


def save(path, value, size=(6, 5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 0)).save(path)


def test_class_folders_with_and_without_a_test_split(tmp_path):
    for label, name in enumerate(("cat", "dog")):
        for index in range(50):
            save(tmp_path / "plain" / name / f"{index}.png", 100 * label + index)
            save(tmp_path / "parted" / ("test" if index < 3 else "train") / name / f"{index}.png", 100 * label + index)
    plain, parted = (load_dataset(f"folder:{tmp_path / name}") for name in ("plain", "parted"))
    assert plain.classes == parted.classes == ("cat", "dog")
    assert len(plain.train) + len(plain.test) == 100 and 10 <= len(plain.test) <= 30
    assert (len(parted.train), len(parted.test)) == (94, 6)
    assert parted.shape == (5, 6, 3)
    assert ((parted.test.images[:, 0, 0, 0] >= 100) == parted.test.labels).all()


def test_images_in_folders_of_a_class_folder_are_refused_but_for_hidden_ones(tmp_path):
    for index in range(20):
        save(tmp_path / "cat" / f"{index}.png", index)
        save(tmp_path / "dog" / f"{index}.png", index)
    save(tmp_path / "dog" / ".thumbnails" / "0.png", 0)
    (tmp_path / "dog" / "notes").mkdir()
    (tmp_path / "dog" / "notes" / "camera.txt").touch()
    assert len(load_dataset(f"folder:{tmp_path}").train) < 40
    save(tmp_path / "dog" / "june" / "left" / "0.png", 0)
    with pytest.raises(ConfigError, match="june/left/0.png lies in a folder of the class folder .*dog; allowed: .*fix: move it"):
        load_dataset(f"folder:{tmp_path}")


def test_an_image_more_or_less_moves_no_other_between_train_and_test(tmp_path):
    for index in range(60):
        save(tmp_path / ("cat" if index % 2 else "dog") / f"{index}.png", 4 * index)
    before = load_dataset(f"folder:{tmp_path}")
    save(tmp_path / "ant" / "new.png", 255)
    (tmp_path / "dog" / "0.png").unlink()
    after = load_dataset(f"folder:{tmp_path}")
    for part in ("train", "test"):
        kept, now = (set(getattr(each, part).images[:, 0, 0, 0].tolist()) - {0, 255} for each in (before, after))
        assert kept == now


def test_no_image_that_was_learned_from_is_validated_on_when_others_come(tmp_path):
    for index in range(60):
        save(tmp_path / ("cat" if index % 2 else "dog") / f"{index}.png", index)
    first = hold_out(load_dataset(f"folder:{tmp_path}"), 15)
    for index in range(60, 120):
        save(tmp_path / ("cat" if index % 2 else "dog") / f"{index}.png", index)
    second = hold_out(load_dataset(f"folder:{tmp_path}"), 15)
    learned, validated = (set(part.images[:, 0, 0, 0].tolist()) for part in (first.train, second.validation))
    assert len(validated) == 15 and not learned & validated


def test_images_of_a_folder_come_mixed(tmp_path):
    for part in ("train", "test"):
        for index in range(40):
            save(tmp_path / "parted" / part / "ab"[index % 2] / f"{index}.png", index)
            save(tmp_path / "plain" / "ab"[index % 2] / f"{index}.png", index)
    for name in ("parted", "plain"):
        labels = load_dataset(f"folder:{tmp_path / name}").train.labels
        assert 0 < labels[: len(labels) // 2].mean() < 1


def test_a_test_split_of_other_classes_or_another_size_is_refused(tmp_path):
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            save(tmp_path / part / name / "0.png", 0)
    save(tmp_path / "test" / "Dog" / "0.png", 0)
    with pytest.raises(ConfigError, match="test has the class 'Dog', which .*train has not; allowed: its 2: cat, dog"):
        load_dataset(f"folder:{tmp_path}")
    (tmp_path / "test" / "Dog").rename(tmp_path / "train" / "eel")
    (tmp_path / "train" / "eel" / "0.png").rename(tmp_path / "train" / "eel" / "0.heic")
    with pytest.raises(ConfigError, match="the class 'eel' of .* has no training image"):
        load_dataset(f"folder:{tmp_path}")
    shutil.rmtree(tmp_path / "train" / "eel")
    for name in ("cat", "dog"):
        save(tmp_path / "test" / name / "0.png", 0, size=(9, 8))
    with pytest.raises(ConfigError, match="are 6x5 in train/, 9x8 in test/"):
        load_dataset(f"folder:{tmp_path}")


def test_too_few_images_for_a_test_split_are_refused(tmp_path):
    save(tmp_path / "cat" / "0.png", 0)
    save(tmp_path / "dog" / "0.png", 0)
    with pytest.raises(ConfigError, match="of the 2 images .* are test images"):
        load_dataset(f"folder:{tmp_path}")


def test_folders_that_cannot_be_a_data_set_are_refused(tmp_path):
    with pytest.raises(NotFound, match="there is no folder"):
        load_dataset(f"folder:{tmp_path / 'nowhere'}")
    save(tmp_path / "one" / "cat" / "0.png", 0)
    with pytest.raises(ConfigError, match="holds 1 class folders"):
        load_dataset(f"folder:{tmp_path / 'one'}")
    save(tmp_path / "names" / "tea" / "0.png", 0)
    os.mkdir(os.fsencode(tmp_path / "names") + b"/caf\xe9")
    with pytest.raises(ConfigError, match=r"the class folder 'caf\\udce9' .*; allowed: a name in UTF-8; fix: rename it"):
        load_dataset(f"folder:{tmp_path / 'names'}")
    save(tmp_path / "two" / "cat" / "0.png", 0)
    save(tmp_path / "two" / "dog" / "0.png", 0, size=(7, 5))
    with pytest.raises(ConfigError, match="0.png is 7x5; allowed: 6x5"):
        load_dataset(f"folder:{tmp_path / 'two'}")
    Image.fromarray(np.full((5, 6), 20_000, np.uint16)).save(tmp_path / "two" / "dog" / "0.png")
    with pytest.raises(InvalidRequest, match="0.png has deep pixels"):
        load_dataset(f"folder:{tmp_path / 'two'}")
    (tmp_path / "two" / "dog" / "0.png").write_bytes(b"not a picture")
    with pytest.raises(ConfigError, match="dog/0.png cannot be read"):
        load_dataset(f"folder:{tmp_path / 'two'}")
    (tmp_path / "two" / "dog" / "0.png").unlink()
    if features.check("avif"):
        target = tmp_path / "two" / "dog" / "0.avif"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(target)
        target.write_bytes(target.read_bytes()[:-400])
        with pytest.raises(ConfigError, match="dog/0.avif cannot be read"):
            load_dataset(f"folder:{tmp_path / 'two'}")
        target.unlink()
    (tmp_path / "two" / "dog" / "0.ppm").write_bytes(b"P6\n6 ")
    with pytest.raises(ConfigError, match="dog/0.ppm cannot be read"):
        load_dataset(f"folder:{tmp_path / 'two'}")
    with pytest.raises(ConfigError, match="unknown data set 'mnist'"):
        load_dataset("mnist")


def write_packed(path, count, seed):
    """A packed file of `count` images: strips of 100, lossless WebP."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    blobs = []
    for start in range(0, count, 100):
        buffer = io.BytesIO()
        Image.fromarray(images[start : start + 100].reshape(-1, 32, 3)).save(buffer, "WEBP", lossless=True, exact=True)
        blobs.append(buffer.getvalue())
    offsets = np.cumsum([0, *map(len, blobs)])
    labels = (np.arange(count) % 10).astype(np.uint8)
    classes = [f"class {label}" for label in range(10)]
    np.savez(path, webp=np.frombuffer(b"".join(blobs), np.uint8), offsets=offsets, labels=labels, classes=classes)
    return images


def test_packed_files_are_read_pixel_for_pixel(tmp_path):
    first, second, test = (
        write_packed(tmp_path / f"cifar10_{part}.npz", count, seed)
        for seed, (part, count) in enumerate({"train_a": 200, "train_b": 100, "test": 100}.items())
    )
    dataset = load_dataset("cifar10", tmp_path)
    assert (dataset.train.images == np.concatenate([first, second])).all()
    assert (dataset.test.images == test).all()
    assert dataset.classes[3] == "class 3" and dataset.test.labels[13] == 3


@pytest.mark.skipif(
    not (data_folder() / "cifar10_test.npz").is_file(), reason=f"CIFAR-10 is not in {os.environ.get('WEAKLINK_DATA') or 'data'}"
)
def test_the_real_test_split_has_ten_thousand_balanced_images():
    test = load_dataset("cifar10").test
    assert isinstance(test, Split) and test.images.shape == (10_000, 32, 32, 3)
    assert np.bincount(test.labels).tolist() == [1000] * 10
