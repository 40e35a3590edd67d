"""A device on a serial line with canned answers, and, where the interpreter has sockets, at a real edge."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from device_client import Device
from semantic_codec.bitstream import pack_symbols
from semantic_codec.bundle import find_bundle
from semantic_codec.encoder import IntegerEncoder
from semantic_codec.frame import Header, encode_frame
from semantic_codec.reply import Refusal, Reply, ReplyStatus, encode_reply
from tests.semantic_codec.test_encoder import golden_images

SYNC = b"\xfa\xf3\x20"
DEVICE = 700

ON_A_LINE = """
import json
from weaklink import Device, StreamTransport
from weaklink.errors import *

class Line:
    # A UART: what the edge says to each frame lies in answers, a list of lists of pieces as they arrive.
    def __init__(self, answers):
        self.answers, self.waiting, self.written = answers, [], b""
    def write(self, data):
        count = min(len(data), 11)
        self.written += bytes(data[:count])
        if count == len(data):
            print(self.written.hex())
            self.written = b""
            self.waiting += [bytes.fromhex(piece) for piece in self.answers.pop(0)]
        return count
    def read(self, size):
        return self.waiting.pop(0) if self.waiting else None

with open("script.json") as file:
    script = json.load(file)
line = Line(script["answers"])
device = Device("digits", StreamTransport(line, timeout_s=script["timeout_s"], retries=1), device=700, first_sequence=4094)
with open("image.bin", "rb") as file:
    image = file.read()
for content, level in script["calls"]:
    try:
        answer = device.infer(image if content is None else bytes.fromhex(content), level)
        print(answer.label, answer.class_index, round(63 * answer.confidence), answer.level, answer.sequence, answer.advice)
    except WeaklinkError as problem:
        print(type(problem).__name__, problem)
print(device.transport.unreadable)
"""


class Desk:
    """A board with an image, the frames that it should send, and a script of what it hears."""

    def __init__(self, interpreter, board):
        self.interpreter, self.board = interpreter, board
        image = golden_images(8, 8)[5]
        (board / "image.bin").write_bytes(image.tobytes())
        bundle = find_bundle("digits")
        encoder = IntegerEncoder.from_bytes(bundle.encoder_bin)
        self.payload = pack_symbols(encoder.encode(image[None]), 1).tobytes()
        self.hash = bundle.encoder_hash

    def frame(self, sequence: int, level: int, payload: bytes) -> str:
        return (SYNC + encode_frame(Header(1, level, DEVICE, sequence), payload, self.hash)).hex()

    def run(self, calls: list, answers: list[list[bytes]], timeout_s: float = 60) -> list[str]:
        # Patient where an answer comes, so that no test fails because the machine is busy.
        heard = [[piece.hex() for piece in pieces] for pieces in answers]
        script = {"calls": calls, "answers": heard, "timeout_s": timeout_s}
        (self.board / "script.json").write_text(json.dumps(script))
        return self.interpreter.run(self.board, ON_A_LINE)


@pytest.fixture
def desk(interpreter, board) -> Desk:
    return Desk(interpreter, board)


def reply(sequence: int, class_index: int = 3, **fields) -> bytes:
    return SYNC + encode_reply(Reply(sequence, class_index, **fields), DEVICE)


def test_images_and_bitstreams_over_a_line(desk):
    calls = [[None, None], [None, 0], [b"12345678".hex(), None], [b"12345678".hex(), 1]]
    answers = [
        [reply(4094, 7, confidence=50 / 63, advice_level=1)],
        [reply(4095)[:5], reply(4095)[5:]],
        [reply(0)],
        [reply(1)],
    ]
    printed = desk.run(calls, answers)
    assert printed == [
        desk.frame(4094, 2, desk.payload),
        "7 7 50 2 4094 1",
        desk.frame(4095, 0, desk.payload[:2]),
        "3 3 0 0 4095 None",
        desk.frame(0, 2, b"12345678"),
        "3 3 0 2 0 None",
        desk.frame(1, 1, b"1234"),
        "3 3 0 1 1 None",
        "0",
    ]


def test_noise_lost_bytes_and_flips(desk):
    """A reply is found behind noise, a false sync word, a reply that lost a byte, one to another device, and flips."""
    rng = np.random.default_rng(5)
    cut = reply(4094)[:9] + reply(4094)[10:]
    other = SYNC + encode_reply(Reply(4094, 9), DEVICE + 1)
    late = reply(4093, 8)
    damaged = bytearray(reply(4094, 5))
    for bit in (1, 9, 17, 20, 22, 40, 80, 81, 100, 140):
        damaged[bit >> 3] ^= 128 >> (bit & 7)
    noise = rng.integers(0, 256, 40).astype(np.uint8).tobytes()
    printed = desk.run([[None, None]], [[noise, SYNC + cut, other, late + bytes(damaged)[:4], bytes(damaged)[4:]]])
    assert printed[1] == "5 5 0 2 4094 None"
    assert int(printed[2]) >= 2


def test_a_frame_is_repeated_then_given_up(desk):
    silent = desk.run([[None, None]], [[], []], timeout_s=0.05)
    assert silent[0] == silent[1] == desk.frame(4094, 2, desk.payload)
    assert silent[2].startswith("DeadlineExceeded no reply to frame 4094 after 2 transmissions; allowed: ")


@pytest.mark.parametrize("taken", ["None", "0"])
def test_a_line_that_takes_no_bytes_is_given_up(interpreter, board, taken):
    """As with a modem that holds CTS; the first bytes still go, so each frame is lost in its middle."""
    script = f"""
from weaklink import Device, StreamTransport
from weaklink.errors import DeadlineExceeded
class Held:
    room = 5
    def write(self, data):
        written, self.room = min(self.room, len(data)), 0
        return written or {taken}
    def read(self, size):
        return None
try:
    Device("digits", StreamTransport(Held(), timeout_s=0.05, retries=1)).infer(bytes(8))
except DeadlineExceeded as problem:
    print(problem)
"""
    (line,) = interpreter.run(board, script, timeout=20)
    assert "after 2 transmissions" in line


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        (ReplyStatus.REFUSED, Refusal.ENCODER_MISMATCH, "EncoderMismatch frame 4094 does not match the edge's decoder"),
        (ReplyStatus.REFUSED, Refusal.UNKNOWN_CODEC, "NotFound frame 4094 is of a codec that does not serve"),
        (ReplyStatus.REFUSED, 900, "WeaklinkError frame 4094 refused"),
        (ReplyStatus.BUSY, 0, "Unavailable the edge is busy"),
    ],
)
def test_refusals_are_named(desk, status, reason, expected):
    assert desk.run([[None, None]], [[reply(4094, reason, status=status)]])[1].startswith(expected)


def test_codecs_of_one_device_share_its_numbers(interpreter, board):
    """The edge would take an image for the repeat of another codec's, and answer with that one's class."""
    script = """
from weaklink import Bundle, Device, StreamTransport
from weaklink.errors import DeadlineExceeded
class Silence:
    def write(self, data):
        return len(data)
    def read(self, size):
        return None
def device(**settings):
    return Device(bundle, StreamTransport(Silence(), timeout_s=0.001, retries=0), **settings)
bundle = Bundle("digits")
def send(*devices):
    for each in devices:
        try:
            each.infer(bytes(8))
        except DeadlineExceeded as problem:
            print(problem.problem.split()[4])
first, second = device(device=7), device(device=7)
send(first, second, device(device=8, first_sequence=9), first, device(device=7))
send(device(device=7, first_sequence=4095), first)
"""
    start, *later = map(int, interpreter.run(board, script))
    assert later == [(start + 1) % 4096, 9, (start + 2) % 4096, (start + 3) % 4096, 4095, 0]


def test_what_is_neither_image_nor_bitstream_is_refused(desk):
    printed = desk.run([["0011", 1], ["00" * 9, None], ["00" * 9, 7]], [])
    assert [line.split()[0] for line in printed[:3]] == ["InvalidRequest"] * 3
    assert "192, or 2 (level 0), 4 (level 1), 8 (level 2)" in printed[1]


def test_udp_and_feedback_at_a_real_edge(interpreter, board, tiny, images, edge):
    if not interpreter.sockets:
        pytest.skip("this interpreter has no sockets; MICROPYTHON_BIN may name one that has")
    shutil.copytree(tiny.folder, board / "tiny")
    (board / "image.bin").write_bytes(images[0].tobytes())
    script = f"""
from weaklink import Device
with open("image.bin", "rb") as file:
    image = file.read()
with Device("tiny", "udp", "{edge["udp"]}", device=701, feedback="{edge["http"]}", timeout_s=20) as device:
    answer = device.infer(image)
    print(answer.class_index, answer.label, answer.level, answer.confidence > 0)
    print(device.feedback(answer, 1), device.feedback(answer, 1) in (True, False))
"""
    with Device(tiny, "udp", edge["udp"], device=702, timeout_s=20) as device:
        expected = device.infer(images[0])
    assert interpreter.run(board, script) == [
        f"{expected.class_index} {expected.label} {expected.level} {expected.confidence > 0}",
        "True True",
    ]


@pytest.mark.parametrize(
    ("given", "named"),
    [("timeout_s=9, retries=0", "retries, timeout_s"), ("kye='00'", "kye"), ("address='192.0.2.1:50052'", "address")],
)
def test_a_transport_s_settings_beside_the_object_are_refused(interpreter, board, given, named):
    script = f"""
from weaklink import Device, StreamTransport
from weaklink.errors import InvalidRequest
try:
    Device("digits", StreamTransport(None), device=7, {given})
except InvalidRequest as problem:
    print(problem.problem)
"""
    assert interpreter.run(board, script) == [f"{named} given beside a transport object"]


def test_udp_is_refused_where_there_are_no_sockets(interpreter, board):
    if interpreter.sockets:
        pytest.skip("this interpreter has sockets")
    script = """
from weaklink import Device
from weaklink.errors import Unavailable
try:
    Device("digits", "udp", "192.0.2.1:50052")
except Unavailable as problem:
    print(problem)
"""
    assert "use StreamTransport" in interpreter.run(board, script)[0]
