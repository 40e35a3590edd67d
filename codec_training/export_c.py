"""A bundle's encoder as C: one header and one source with ``static const`` data, or a whole firmware folder.

    weaklink export cifar10 --target c --output DIR        DIR/weaklink_cifar10.h, DIR/weaklink_cifar10.c
    weaklink export cifar10 --target stm32 --output DIR    the same, the library, the firmware and its Makefile
    ... --target stm32 --key-file FILE                     a firmware that sends keyed frames; key.h holds the secret
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from codec_training.device_memory import workspace_bytes
from semantic_codec.bundle import Bundle
from semantic_codec.encoder_format import EncoderProgram
from semantic_codec.errors import ConfigError, NotFound
from semantic_codec.keyed import DeviceKey

KEY = "key.h"
RECORD = "exported.sha256"
LIBRARY = Path(__file__).resolve().parents[1] / "device_client" / "stm32"


def write_c(bundle: Bundle, folder: Path) -> list[Path]:
    """Write the pair and return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"weaklink_{identifier(bundle.manifest.name)}"
    paths = [folder / f"{stem}.h", folder / f"{stem}.c"]
    paths[0].write_text(_header(bundle, stem), "utf-8")
    paths[1].write_text(_source(bundle, stem), "utf-8")
    return paths


def write_firmware(bundle: Bundle, folder: Path, key: DeviceKey | None = None) -> list[Path]:
    """Write a folder in which ``make`` builds the firmware of this bundle, in keyed mode where there is a key.

    NotFound: the C library is not installed. ConfigError: a file of an earlier export was changed there, as for another board.
    """
    if not LIBRARY.is_dir():
        raise NotFound(f"there is no C library at {LIBRARY}", allowed="a checkout", fix="clone the repository and export from there")
    _refuse_changes(folder)
    copied: list[Path] = []

    def copy(source: str, to: str) -> None:
        copied.append(Path(shutil.copy2(source, to)))

    for part in ("include", "src"):
        shutil.copytree(LIBRARY / part, folder / "library" / part, dirs_exist_ok=True, copy_function=copy)
    ignored = shutil.ignore_patterns("build", "codec")
    shutil.copytree(LIBRARY / "firmware", folder, dirs_exist_ok=True, ignore=ignored, copy_function=copy)
    makefile = folder / "Makefile"
    text = makefile.read_text().replace("LIBRARY ?= ..", "LIBRARY ?= library")
    makefile.write_text(text if key is None else text.replace("MODE ?= open", "MODE ?= keyed"))
    paths = [*write_c(bundle, folder), write_codec(bundle, folder), makefile]
    _write_record(folder, {*copied, *paths})
    (folder / KEY).unlink(missing_ok=True)  # of an earlier export: nothing would say that it is still there
    return paths if key is None else [*paths, write_key(key, folder)]


def _refuse_changes(folder: Path) -> None:
    """Raise where a file is not as it was exported; else drop the record, which an export that is broken off leaves untrue."""
    record = folder / RECORD
    if (folder / "Makefile").exists() and not record.is_file():
        raise ConfigError(
            f"{folder} holds a Makefile and no {RECORD}, so that nothing tells what was changed there",
            allowed="a folder as it was exported, or a new one",
            fix="export to another --output, or remove the folder",
        )
    for line in record.read_text("utf-8").splitlines() if record.is_file() else []:
        digest, _, name = line.partition("  ")
        path = folder / name
        if path.is_file() and sha256(path.read_bytes()).hexdigest() != digest:
            raise ConfigError(
                f"{path} was changed since it was exported",
                allowed="a folder as it was exported, files of your own beside it, or a new one",
                fix="export to another --output and take your changes there, or remove the file",
            )
    record.unlink(missing_ok=True)


def _write_record(folder: Path, paths: Iterable[Path]) -> None:
    """What ``sha256sum --check`` reads."""
    lines = [f"{sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n" for path in sorted(paths)]
    (folder / RECORD).write_text("".join(lines), "utf-8")


def write_codec(bundle: Bundle, folder: Path) -> Path:
    """``codec.h``, by which the firmware finds the tables of one bundle."""
    stem = f"weaklink_{identifier(bundle.manifest.name)}"
    path, upper = folder / "codec.h", stem.upper()
    names = [*_constants(bundle), "LEVEL_BYTES"]
    lines = ["/* The codec that this firmware runs. */", "#ifndef CODEC_H", "#define CODEC_H", "", f'#include "{stem}.h"', ""]
    lines += [f"#define CODEC_{name} {upper}_{name}" for name in names]
    lines += [f"#define CODEC_ENCODER {stem}_encoder", f"#define CODEC_HASH {stem}_hash", "", "#endif", ""]
    path.write_text("\n".join(lines))
    return path


def write_key(key: DeviceKey, folder: Path) -> Path:
    """``key.h`` with the device's secret, which only its owner may read."""
    path = folder / KEY
    path.touch(mode=0o600)
    path.write_text(f"""\
/* The secret of one device: keep it out of version control. Its key's id is {key.key_id.hex()}. */
#ifndef KEY_H
#define KEY_H

#include <stdint.h>

static const uint8_t DEVICE_SECRET[{len(key.secret)}] = {{
{_rows(key.secret)}
}};

#endif
""")
    return path


def identifier(name: str) -> str:
    """A bundle's name as part of a C identifier."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def _constants(bundle: Bundle) -> dict[str, int]:
    program, manifest = EncoderProgram.from_bytes(bundle.encoder_bin), bundle.manifest
    return {
        "ID": manifest.codec_id,
        "VERSION": manifest.version,
        "HEIGHT": program.height,
        "WIDTH": program.width,
        "IMAGE_BYTES": program.height * program.width * 3,
        "SYMBOLS": program.symbols,
        "BITSTREAM_BYTES": -(-program.symbols * program.bits_per_symbol // 8),
        "WORKSPACE_BYTES": workspace_bytes(program),
        "LAYERS": len(program.layers),
        "MACS": program.macs,
        "ENCODER_BYTES": len(bundle.encoder_bin),
        "LEVELS": len(manifest.levels),
    }


def _header(bundle: Bundle, stem: str) -> str:
    upper, manifest = stem.upper(), bundle.manifest
    levels = ", ".join(str(level.payload_bytes) for level in manifest.levels)
    defines = "\n".join(f"#define {upper}_{name} {value}u" for name, value in _constants(bundle).items())
    return f"""\
/* Codec {manifest.name}, version {manifest.version}. Written by `weaklink export {manifest.name} --target c`; do not edit.
 *
 * WORKSPACE_BYTES is what wl_encoder_run needs, exactly; BITSTREAM_BYTES what it writes. LEVEL_BYTES are the payload
 * bytes of each level, prefixes of the bitstream; bits behind a level's last symbol are ignored. */
#ifndef {upper}_H
#define {upper}_H

#include <stdint.h>

{defines}
#define {upper}_LEVEL_BYTES {{{levels}}}

#ifdef __cplusplus
extern "C" {{
#endif

/* encoder.bin, and its SHA-256, which every frame's check covers. */
extern const uint8_t {stem}_encoder[{upper}_ENCODER_BYTES];
extern const uint8_t {stem}_hash[32];

#ifdef __cplusplus
}}
#endif

#endif
"""


def _source(bundle: Bundle, stem: str) -> str:
    upper = stem.upper()
    return f"""\
/* Codec {bundle.manifest.name}, version {bundle.manifest.version}. Written by `weaklink export`; do not edit. */
#include "{stem}.h"

const uint8_t {stem}_encoder[{upper}_ENCODER_BYTES] = {{
{_rows(bundle.encoder_bin)}
}};

const uint8_t {stem}_hash[32] = {{
{_rows(bundle.encoder_hash)}
}};
"""


def _rows(data: bytes) -> str:
    rows = (data[start : start + 24] for start in range(0, len(data), 24))
    return "\n".join("    " + " ".join(f"{byte}," for byte in row) for row in rows)
