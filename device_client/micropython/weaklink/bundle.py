"""A codec's folder on the board: ``bundle.json`` and ``encoder.bin`` as they come from the trainer's machine."""

import hashlib
import json

from .errors import BundleError, InvalidRequest
from .program import open_file


class Level:
    """A prefix of the symbols."""

    def __init__(self, number, symbols, payload_bytes):
        self.number, self.symbols, self.payload_bytes = number, symbols, payload_bytes


class Bundle:
    """What a device needs to know of a codec: name, version, codec_id, classes, levels, encoder_hash, encoder_path."""

    def __init__(self, folder):
        path = folder + "/bundle.json"
        with open_file(path) as file:
            try:
                manifest = json.load(file)
                self.name, self.version, self.codec_id = manifest["name"], manifest["version"], manifest["codec_id"]
                self.classes = manifest["tasks"][0]["classes"]
                self.symbols, self.bits_per_symbol = manifest["symbols"], manifest["bits_per_symbol"]
                expected, counts = manifest["files"]["encoder.bin"], manifest["levels"]
            except (ValueError, KeyError, IndexError, TypeError):
                raise BundleError("%s is damaged" % path, "a bundle's manifest", "copy it to the board again")
        self.levels = tuple(
            Level(number, symbols, -(-symbols * self.bits_per_symbol // 8)) for number, symbols in enumerate(counts)
        )
        self.encoder_path = folder + "/encoder.bin"
        self.encoder_hash = file_hash(self.encoder_path)
        if "".join("%02x" % byte for byte in self.encoder_hash) != expected:
            raise BundleError(
                "%s is not the manifest's" % self.encoder_path,
                "SHA-256 " + expected,
                "copy both files to the board again",
            )


def file_hash(path):
    """SHA-256 of a file, 32 bytes."""
    digest = hashlib.sha256()
    part = bytearray(512)
    view = memoryview(part)
    with open_file(path) as file:
        while True:
            count = file.readinto(part)
            if not count:
                return digest.digest()
            digest.update(view[:count])


def level_of(levels, number):
    """The level of that number, or :class:`InvalidRequest` naming those that exist."""
    for level in levels:
        if level.number == number:
            return level
    if not levels:
        raise InvalidRequest("level %r is not known" % number, "none: a bare encoder.bin", "use Encoder.from_bundle")
    allowed = ", ".join("%d (%d B)" % (level.number, level.payload_bytes) for level in levels)
    raise InvalidRequest("level %r does not exist" % number, allowed, "take one of these, or none for the longest")


def cut_to_level(bitstream, level, bits_per_symbol):
    """The level's prefix of a longer payload; unused bits of its last byte are 0."""
    payload = bytearray(bitstream[: level.payload_bytes])
    spare = level.payload_bytes * 8 - level.symbols * bits_per_symbol
    if spare:
        payload[-1] &= 0xFF << spare & 0xFF
    return bytes(payload)
