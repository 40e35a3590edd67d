"""The firmware on emulated boards: every byte against NumPy, frames that the edge reads, and what it costs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import device
from benchmarks.emulated_board import MACHINES, emulated_board, emulated_console, firmware_sizes
from semantic_codec.bitstream import pack_symbols
from semantic_codec.bundle import find_bundle
from semantic_codec.encoder import IntegerEncoder
from semantic_codec.errors import NotFound, WeaklinkError
from semantic_codec.frame import FrameReader, WireCodec
from semantic_codec.keyed import DeviceKey
from semantic_codec.keyed_frame import KeyedFrameReader
from semantic_codec.keyed_reply import encode_keyed_reply
from semantic_codec.reply import Reply, encode_reply
from tests.device_client.stm32.conftest import HERE, INCLUDES, LIBRARY, WARNINGS, Harness, need
from tests.device_client.stm32.programs import any_programs, images_for
from tests.device_client.stm32.test_encoder import UNPROVEN, encode_all

FIGURES = Path(__file__).parents[2] / "golden" / "firmware_sizes.json"
GROWTH = 1.03
SYNC = bytes.fromhex("faf320")
KEY = DeviceKey(bytes(range(32)))


@pytest.fixture(scope="session")
def firmware(tmp_path_factory):
    """(codec, board, keyed) -> bundle, image; skips where a tool or the bundle is missing.

    Keyed images keep their sequences in flash, with keep="ram" in RAM.
    """
    for tool in device.TOOLS:
        need(tool)
    built = {}

    def get(name: str, kind: str, keyed: bool = False, keep: str = "flash"):
        place = name, kind, keyed, keep
        if place not in built:
            try:
                bundle = find_bundle(name)
            except NotFound:
                pytest.skip(f"there is no bundle {name}")
            built[place] = bundle, device.build(bundle, tmp_path_factory.mktemp(name), kind, KEY if keyed else None, keep)
        return built[place]

    return get


@pytest.mark.parametrize("kind", sorted(MACHINES))
@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_every_byte_and_the_stack(firmware, name, kind):
    bundle, image = firmware(name, kind)
    encoder = IntegerEncoder.from_bytes(bundle.encoder_bin)
    shape = (3, encoder.height, encoder.width, 3)
    images = np.random.default_rng(2).integers(0, 256, shape).astype(np.uint8)
    with emulated_board(kind, image) as board:
        assert board.hello.error == 0
        for picture, bitstream in zip(images, pack_symbols(encoder.encode(images), encoder.bits_per_symbol), strict=True):
            found, report = board.encode(picture.tobytes())
            assert found == bitstream.tobytes()
        assert report.stack_bytes < board.hello.stack_bytes // 2
        if name == "cifar10":
            assert report.instructions <= min(2 * board.hello.macs, 16_000_000)


def test_an_encoding_may_take_longer_than_the_tick_counter_counts(firmware):
    bundle, image = firmware("cifar10", "f405")
    picture = bytes(bundle.manifest.height * bundle.manifest.width * 3)
    totals = []
    for shift in (0, 4):
        with emulated_board("f405", image, shift=shift) as board:
            _, report = board.encode(picture)
        totals.append(report.instructions)
        assert sum(report.layers) <= report.instructions
    # At 16 ns an instruction that is 27 million ticks, where the counter has 24 bits.
    assert totals[1] == pytest.approx(totals[0], rel=0.01)


@pytest.mark.parametrize("kind", sorted(MACHINES))
@pytest.mark.parametrize("keyed", [False, True], ids=["open", "keyed"])
def test_frames_leave_and_replies_come_back(firmware, kind, keyed):
    """Each frame is read by the edge's reader; the first reply is damaged, the second is for another device.

    In keyed mode the numbers are the device's own: those that the console names are not used.
    """
    bundle, image = firmware("digits", kind, keyed, "ram")
    manifest = bundle.manifest
    encoder = IntegerEncoder.from_bytes(bundle.encoder_bin)
    pictures = np.random.default_rng(3).integers(0, 256, (2, encoder.height, encoder.width, 3)).astype(np.uint8)
    streams = [row.tobytes() for row in pack_symbols(encoder.encode(pictures), encoder.bits_per_symbol)]
    sizes = tuple(level.payload_bytes for level in manifest.levels)
    codecs, header = [WireCodec(manifest.codec_id, bundle.encoder_hash, sizes)], 28 if keyed else 18
    reader = KeyedFrameReader(codecs, {7: KEY, 8: KEY}) if keyed else FrameReader(codecs)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        with emulated_board(kind, image, f"tcp:127.0.0.1:{server.getsockname()[1]}") as board, server.accept()[0] as radio:
            radio.settimeout(60)
            assert (board.hello.error, board.hello.mode) == (0, keyed)
            for sequence, (picture, addressee) in enumerate(zip(pictures, (7, 8), strict=True)):
                answer = Reply(sequence, 3, 1.0, 1)
                reply = bytearray(encode_keyed_reply(answer, addressee, KEY) if keyed else encode_reply(answer, addressee))
                reply[4] ^= 0x5A
                # What is on the way before a frame is sent is noise to the device.
                level = sequence % len(sizes)
                radio.sendall(b"\x00\xff" + SYNC + bytes(reply))
                found, report, heard = board.infer(picture.tobytes(), 7, 5 if keyed else sequence, level, 5)
                assert found == streams[sequence]
                frame = b""
                while len(frame) < 3 + header + sizes[level]:
                    frame += radio.recv(3 + header + sizes[level] - len(frame))
                assert frame[:3] == SYNC
                (result,) = reader.read([frame[3:]])
                assert (result.outcome, result.header.device, result.header.sequence) == ("ok", 7, sequence)
                assert result.payload == streams[sequence][: sizes[level]]
                assert heard is None or (heard.class_index, heard.confidence, heard.advice, heard.sequence) == (3, 63, 1, sequence)
                assert (heard is not None) == (addressee == 7)
            assert board.encode(pictures[0].tobytes())[1].stack_bytes < 0.75 * board.hello.stack_bytes


def test_an_encoder_that_is_not_proven_is_refused_by_every_command(firmware, tmp_path):
    bundle, image = firmware("digits", "f405")
    encoder, bias = bundle.encoder_bin, IntegerEncoder.from_bytes(bundle.encoder_bin).program.layers[0].bias.astype("<i4").tobytes()
    unproven, picture = tmp_path / "unproven.elf", bytes(bundle.manifest.height * bundle.manifest.width * 3)
    unproven.write_bytes(image.read_bytes().replace(encoder, encoder.replace(bias, b"\xff\xff\xff\x7f" + bias[4:])))
    with emulated_board("f405", unproven) as board:
        assert board.hello.error == UNPROVEN
        for command in (lambda: board.encode(picture), lambda: board.infer(picture, 7, 0, 0, 5)):
            with pytest.raises(WeaklinkError, match=f"error {UNPROVEN}"):
                command()


def test_without_flash_to_write_to_nothing_is_sent(firmware):
    """The emulator's flash cannot be written, as a worn one: no sequence is surely kept, so no frame may leave."""
    bundle, image = firmware("digits", "f405", True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        with emulated_board("f405", image, f"tcp:127.0.0.1:{server.getsockname()[1]}") as board, server.accept()[0] as radio:
            _, _, heard = board.infer(bytes(bundle.manifest.height * bundle.manifest.width * 3), 7, 0, 0, 5)
            assert heard is None
            radio.setblocking(False)
            with pytest.raises(BlockingIOError):
                radio.recv(1)


@pytest.mark.parametrize(("number", "compiles"), [(81, True), (82, False)])
def test_an_interrupt_beyond_the_vector_table_does_not_compile(tmp_path, number, compiles):
    (tmp_path / "board.c").write_text(f'#include "board.h"\nvoid board_start(void) {{ BOARD_ENABLE_INTERRUPT({number}); }}\n')
    command = [need("arm-none-eabi-gcc"), *WARNINGS, f"-I{LIBRARY / 'firmware'}", "-fsyntax-only", "-ffreestanding", "board.c"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode == 0) == compiles and ("raise BOARD_INTERRUPTS" in done.stderr) != compiles


def test_another_mode_or_keep_is_built_anew(firmware, tmp_path):
    """Sequences that start at 0 again, or frames without a key, must not be flashed because an image is there."""
    bundle, _ = firmware("digits", "f405")
    image = device.build(bundle, tmp_path, "f405", KEY, "ram")

    def functions(*options: str) -> str:
        subprocess.run(["make", "-s", "-C", str(tmp_path), str(image.relative_to(tmp_path)), *options], check=True, capture_output=True)
        return subprocess.run(["arm-none-eabi-nm", str(image)], check=True, capture_output=True, text=True).stdout

    assert "flash_write" not in functions("KEEP=ram")
    assert "flash_write" in functions()
    assert "wl_blake2s" not in functions("MODE=open")
    assert "flash_write" in functions()


@pytest.mark.parametrize("kind", sorted(MACHINES))
@pytest.mark.parametrize("mode", ["open", "keyed"])
@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_flash_and_ram_grow_by_three_percent_at_most(firmware, name, mode, kind):
    """WEAKLINK_REGENERATE=1 writes the figures again, for a codec or compiler that is meant to be larger."""
    flash, ram = firmware_sizes(firmware(name, kind, mode == "keyed")[1])
    figures = json.loads(FIGURES.read_text()) if FIGURES.is_file() else {}
    if os.environ.get("WEAKLINK_REGENERATE"):
        figures[f"{name}-{kind}-{mode}"] = {"flash_bytes": flash, "ram_bytes": ram}
        FIGURES.write_text(json.dumps(dict(sorted(figures.items())), indent=1) + "\n")
    known = figures[f"{name}-{kind}-{mode}"]
    assert flash <= GROWTH * known["flash_bytes"]
    assert ram <= GROWTH * known["ram_bytes"]
    assert flash <= 133_000 and ram <= 44_000


@pytest.fixture(scope="module")
def board_harness(tmp_path_factory):
    """The harness on the Cortex-M7, so with its DSP instructions."""
    for tool in device.TOOLS:
        need(tool)
    image, firmware = tmp_path_factory.mktemp("harness") / "harness.elf", LIBRARY / "firmware"
    sources = [*sorted((LIBRARY / "src").glob("*.c")), HERE / "harness.c", HERE / "board_main.c"]
    sources += [firmware / "startup.c", firmware / "board_m7.c"]
    flags = ["-O2", "-mcpu=cortex-m7", "-mthumb", "-mfloat-abi=soft", "-ffreestanding", "-fno-tree-loop-distribute-patterns"]
    links = ["-nostdlib", "-static", f"-L{firmware}", "-Tm7.ld", "-Wl,--defsym=STACK_BYTES=16384", "-lgcc"]
    command = ["arm-none-eabi-gcc", *WARNINGS, *flags, *INCLUDES, f"-I{firmware}", *map(str, sources), *links, "-o", str(image)]
    subprocess.run(command, check=True)
    with emulated_console("m7", image) as console:
        assert console.recv(1) == b"H"
        with console.makefile("rwb", buffering=0) as stream:
            yield Harness(stream, stream)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(any_programs(), st.integers(0, 2**32 - 1))
def test_any_program_and_image_with_dsp_instructions(board_harness, program, seed):
    encode_all(board_harness, program, images_for(program, seed))
