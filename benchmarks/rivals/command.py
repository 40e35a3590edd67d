"""``weaklink bench rivals``: what the codec is up against, on one channel, at equal on-air bytes.

    ours           each level as it is sent
    ldpc-5g        a shorter prefix behind 5G's LDPC code, at each rate; also
    convolutional  behind LTE's convolutional code; repetition: sent as often as it fits; genie: the best of all of them
                   for the channel at hand; normal-approximation: how many words the best code of that length could carry
    jpeg, webp     classified by a network for pictures: on an error-free link, repeated until whole, behind ideal codes
    raw, local     the whole image to that network; the device's own answer, as a label

Every finished row is written at once; a run that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.latency_tables import rewrite
from benchmarks.rivals.channels import CONDITIONS, Condition
from benchmarks.rivals.code_rows import VALIDATION_IMAGES, CodeRows, base_parameters
from benchmarks.rivals.contest import Contest
from benchmarks.rivals.picture_rows import measure_pictures
from benchmarks.rivals.plot import plot_codes
from benchmarks.rivals.store import Store, refuse_fewer
from benchmarks.rivals.tables import markdown
from benchmarks.rivals.targets import verdicts
from codec_training.config import load_config
from codec_training.datasets import trained_on
from codec_training.evaluate import DRAWS
from semantic_codec.bundle import Manifest, Recording, find_bundle, load_recording
from semantic_codec.errors import ConfigError
from semantic_codec.report import read_rows, results_file


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="weaklink bench rivals", description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundles", nargs="+", default=["cifar10", "cifar100"], metavar="BUNDLE", help="with a recording (default: cifar10 cifar100); rows of others stay as they are in the file")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="of weaklink train (default: runs)")
    parser.add_argument("--pictures", nargs="+", default=[], metavar="NAME", help="trainings whose DIR/NAME/teacher classifies pictures of their data set, DIR/NAME/receiver fine-tuned (default: the bundle's)")
    parser.add_argument("--data", metavar="DIR", help="where CIFAR files lie (default: $WEAKLINK_DATA, else data)")
    parser.add_argument("--images", type=int, default=0, help="the first so many of the test split (default: all)")
    parser.add_argument("--validation-images", type=int, default=VALIDATION_IMAGES, help="on which the genie chooses, at most (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=DRAWS, help="draws of flips per row (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the flips (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument("--stored", action="store_true", help="measure nothing: tables of the rows that are in --json, the others as not measured")
    parser.add_argument("--json", type=results_file, metavar="FILE", help="write the rows here, and go on from those that are there")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="renew the tables between the marks of this page")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw accuracy against BER")
    arguments = parser.parse_args(argv)
    if min(arguments.draws, arguments.threads, arguments.validation_images) < 1 or arguments.images < 0:
        raise ConfigError(
            f"draws {arguments.draws}, threads {arguments.threads}, validation images {arguments.validation_images}, "
            f"images {arguments.images}",
            allowed="at least 1 of each, images 0 for all", fix="raise what is too small",
        )  # fmt: skip
    if arguments.seed < 0:
        raise ConfigError(f"--seed is {arguments.seed}", allowed="0 or more", fix="leave it out for 0")
    refuse_fewer(arguments.json, arguments.images, arguments.draws)
    torch.set_num_threads(arguments.threads)
    stored = read_rows(arguments.json) if arguments.json else []
    store = Store(arguments.json, arguments.seed, measures=not arguments.stored)
    manifests = [compare(name, store, arguments) for name in arguments.bundles]
    found = verdicts(store.rows, manifests)
    compared = {row["bundle"] for row in store.rows}
    store.close([*found, *(row for row in stored if row["bundle"] not in compared)])
    text = markdown(store.rows, found)
    print(text)
    if arguments.docs:
        rewrite(arguments.docs, text)
    if arguments.plot:
        plot_codes(store.rows, arguments.plot)
    return 0


def compare(name: str, store: Store, arguments: argparse.Namespace) -> Manifest:
    """All rows of one bundle, whose manifest is returned."""
    trainings = {config.dataset: config.name for config in (load_config(name).codec for name in arguments.pictures)}
    bundle = find_bundle(name)
    whole = load_recording(bundle)
    count = min(arguments.images or len(whole.labels), len(whole.labels))
    recording = Recording(whole.bitstreams[:count], whole.labels[:count])
    base = base_parameters(bundle, count, arguments.draws, arguments.seed, arguments.validation_images)
    contest = Contest(bundle, recording, arguments.draws, arguments.seed, arguments.threads)
    CodeRows(store, contest, base, arguments.data, arguments.validation_images, arguments.threads).measure(CONDITIONS)
    test = trained_on(bundle.manifest, arguments.data).test.take(np.arange(count))
    if not np.array_equal(test.labels, recording.labels):
        raise ConfigError(
            f"the recording of {name} has other images than {base['dataset']} here", allowed="the same test split in one order",
            fix="export the bundle again on this data set",
        )  # fmt: skip
    # Pictures don't hang on the bundle: theirs are the same rows when it is trained anew.
    shared = {key: value for key, value in base.items() if key not in ("bundle_version", "bundle_files", "validation_images")}
    ours = contest.ours(bundle.manifest.levels[-1].payload_bytes, Condition("bsc"))
    classes = len(bundle.manifest.tasks[0].classes)
    run = arguments.runs / trainings.get(bundle.manifest.training["config"]["codec"]["dataset"], bundle.manifest.name)
    measure_pictures(store, shared, test, run, classes, 100 * float(ours.mean()))
    return bundle.manifest


if __name__ == "__main__":
    raise SystemExit(main())
