"""``weaklink codecs``: the bundles that are found, and what one of them was measured to do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semantic_codec.bundle import RECORDING, Bundle, bundle_folders, bundle_roots, find_bundle, load_bundle
from semantic_codec.errors import NotFound, WeaklinkError
from semantic_codec.report import print_table, results_file, write_json

COLUMNS = {
    "codec": "codec",
    "version": "version",
    "codec_id": "id",
    "tasks": "tasks",
    "classes": "classes",
    "image": "image",
    "payload_bytes": "payload bytes",
    "encoder_macs": "encoder MACs",
    "encoder_bytes": "encoder bytes",
    "recording": "recording",
}


def parser() -> argparse.ArgumentParser:
    """The verb's options."""
    made = argparse.ArgumentParser(prog="weaklink codecs", description="List the codecs, or show one: its accuracy table.")
    made.add_argument("name", nargs="?", help="a codec's name, or the path of a bundle folder")
    made.add_argument(
        "--bundles", type=Path, action="append", metavar="DIR",
        help="folder of bundles, repeatable (default: $WEAKLINK_BUNDLES, else those that came with the package)",
    )  # fmt: skip
    made.add_argument("--json", type=results_file, metavar="FILE", help="also write the table to FILE")
    return made


def row(bundle: Bundle) -> dict[str, Any]:
    """One bundle as a row; sizes in bytes, the encoder's work in multiply-accumulates for one image."""
    manifest = bundle.manifest
    return {
        "codec": manifest.name,
        "version": manifest.version,
        "codec_id": manifest.codec_id,
        "tasks": [task.name for task in manifest.tasks],
        "classes": [len(task.classes) for task in manifest.tasks],
        "image": f"{manifest.width}x{manifest.height}",
        "payload_bytes": [level.payload_bytes for level in manifest.levels],
        "encoder_macs": manifest.encoder.get("macs"),
        "encoder_bytes": len(bundle.encoder_data),
        "recording": "yes" if (bundle.folder / RECORDING).is_file() else "no",
        "folder": bundle.folder,
    }


def every_row(roots: Sequence[Path]) -> tuple[list[dict[str, Any]], int]:
    """(a row per bundle below `roots`, number of bundles and roots refused); each refusal goes to stderr. NotFound: there is no bundle."""
    rows, refused = [], 0
    for folder in [folder for root in roots for folder in bundle_folders(root)]:
        try:
            rows.append(row(load_bundle(folder)))
        except WeaklinkError as error:
            print(f"refused: {folder}: {error}", file=sys.stderr)
            refused += 1
    if not rows and not refused:
        searched = ", ".join(map(str, roots))
        raise NotFound(f"no bundle in {searched}", allowed="a folder of bundles", fix="give another --bundles")
    for root in [root for root in roots if not root.is_dir()]:
        print(f"refused: {root}: there is no such folder", file=sys.stderr)
        refused += 1
    return rows, refused


def main(argv: Sequence[str] | None = None) -> int:
    """Print the list, or one codec's accuracy; returns 1 where a bundle or folder was refused, else 0."""
    options = parser().parse_args(argv)
    roots = options.bundles or bundle_roots()
    refused = 0
    if options.name:
        bundle = find_bundle(options.name, roots=roots)
        rows = bundle.manifest.accuracy
        print_table([row(bundle)], COLUMNS)
        print()
        print_table(rows)
    else:
        rows, refused = every_row(roots)
        print_table(rows, COLUMNS)
    if options.json:
        write_json(options.json, rows, seed=None)
    return 1 if refused else 0
