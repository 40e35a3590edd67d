"""``weaklink bench codecs``: every family's codecs and their rivals on one channel, in one table.

Without more it measures the bundles that are there, committed ones and those of trainings in --runs; rows that
``weaklink bench rivals`` has are taken over. --train trains what is missing first, which takes days on two cores.
Every finished row is written at once; a run that was stopped goes on from there, trainings too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.codecs.plots import draw
from benchmarks.codecs.rows import BASE, is_mean, measure, named, planned, taken_over
from benchmarks.codecs.tables import markdown
from benchmarks.latency_tables import rewrite
from benchmarks.rivals.channels import CONDITIONS
from benchmarks.rivals.store import Store, refuse_fewer
from codec_training import train
from codec_training.evaluate import DRAWS
from codec_training.export import TooLargeToShip
from semantic_codec.errors import ConfigError
from semantic_codec.report import read_rows, results_file

RESULTS = Path(__file__).parents[1] / "results"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="weaklink bench codecs", description=__doc__.split("\n\n")[0])
    parser.add_argument("--codecs", nargs="+", metavar="NAME", help="configurations or bundles, 'digits_*' for all that begin so (default: our configurations on CIFAR, and ablations); rows of others stay as they are in the file")
    parser.add_argument("--train", action="store_true", help="train what --codecs names first, each seed; finished trainings are skipped")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each codec that count (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="of weaklink train (default: runs)")
    parser.add_argument("--data", metavar="DIR", help="where CIFAR files lie (default: $WEAKLINK_DATA, else data)")
    parser.add_argument("--protection", nargs="*", default=["cifar10"], metavar="NAME", help="which of them are also measured with half of their shortest level, with bytes sent twice, and under bursts with and without interleaving (default: cifar10)")
    parser.add_argument("--quick", action="store_true", help="the first 1000 images and one draw: minutes")
    parser.add_argument("--images", type=int, default=0, help="the first so many of the test split (default: all)")
    parser.add_argument("--draws", type=int, default=DRAWS, help="draws of flips per row (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the flips (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument("--stored", action="store_true", help="measure nothing: tables of the rows that are in --json, the others as not measured")
    parser.add_argument("--rivals", type=Path, default=RESULTS / "rivals.json", metavar="FILE", help="rows of weaklink bench rivals (default: the committed ones)")
    parser.add_argument("--json", type=results_file, metavar="FILE", help="write the rows here, and go on from those that are there")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="renew the tables between the marks of this page")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw accuracy against BER, on-air bytes and MACs")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.images, arguments.draws = arguments.images or 1000, 1
    if min(arguments.draws, arguments.threads, arguments.seeds) < 1 or arguments.images < 0:
        raise ConfigError(
            f"draws {arguments.draws}, threads {arguments.threads}, seeds {arguments.seeds}, images {arguments.images}",
            allowed="at least 1 of each, images 0 for all", fix="raise what is too small",
        )  # fmt: skip
    refuse_fewer(arguments.json, arguments.images, arguments.draws)
    names = named(arguments.codecs) if arguments.codecs else planned()
    if arguments.train:
        for name in names:
            train_codec(name, arguments)
    torch.set_num_threads(arguments.threads)
    store = Store(arguments.json, arguments.seed, not arguments.stored, also=[arguments.rivals])
    rows = [row for name in names for row in measure(name, arguments.runs, store, arguments, CONDITIONS)]
    rows += taken_over(read_rows(arguments.rivals), rows)
    shown = {row.get("bundle") for row in rows}
    stored = [row for row in store.earlier if "key" in row or row["variant"] == BASE or is_mean(row)] if arguments.codecs else []
    store.rows = [*rows, *(row for row in stored if row["bundle"] not in shown)]
    store.close([])
    text = markdown(rows)
    print(text)
    if arguments.docs:
        rewrite(arguments.docs, text)
    if arguments.plots:
        draw(rows, arguments.plots)
    return 0


def train_codec(name: str, arguments: argparse.Namespace) -> None:
    """One codec from each seed. A bundle too large to ship is evaluated where it lies."""
    common = ["--runs", str(arguments.runs), "--threads", str(arguments.threads)] + (["--data", arguments.data] if arguments.data else [])
    for seed in range(arguments.seeds):
        try:
            train.main([name, *common, *(["--seed", str(seed)] if seed else [])])
        except TooLargeToShip as error:
            print(error)


if __name__ == "__main__":
    raise SystemExit(main())
