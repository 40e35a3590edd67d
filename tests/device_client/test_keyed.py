"""Keyed mode and serial lines, from the client to a real edge through real links."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_client import Device, create_transport
from device_client.__main__ import main
from device_client.noise import BitFlips
from device_client.samples import recording_samples
from device_client.sequences import SequenceFile
from semantic_codec.errors import ConfigError, DeadlineExceeded, Unavailable
from tests.semantic_codec.test_key_file import ONE, TWO, secret
from weaklink.processes import Service

WAYS = ("udp", "serial")
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def keyed_edge(tiny, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An edge that takes devices 7 and 8 in keyed mode and the others in open mode."""
    keys = secret(tmp_path_factory.mktemp("keys") / "keys.toml", f'7 = "{ONE}"\n8 = "{TWO}"\n')
    ports = ["--grpc-port", "0", "--udp-port", "0", "--http-port", "0", "--serial-port", "0", "--threads", "1"]
    roots = ["--bundles", str(tiny.folder.parents[1])]
    with Service(["serve", *ports, *roots, "--keys", str(keys), "--open-frames", "true"]) as service:
        yield service.ready


@pytest.mark.parametrize("way", WAYS)
def test_keyed_and_open_answers_are_the_same(way, keyed_edge, tiny, images, tmp_path: Path):
    sequences = _after(tmp_path, 256 * len(way))  # the two ways share an edge, and so the device's window
    with (
        Device(tiny, way, keyed_edge[way], device=7, key=ONE, sequences=sequences, timeout_s=PATIENCE_S) as keyed,
        Device(tiny, way, keyed_edge[way], device=20 + len(way), timeout_s=PATIENCE_S) as opened,
    ):
        for level in range(3):
            answer = keyed.infer(images[level], level)
            assert answer.class_index == opened.infer(images[level], level).class_index
            assert answer.sequence % 256 == level


def test_a_restarted_device_goes_on_where_nothing_was_used(keyed_edge, tiny, images, tmp_path: Path):
    seen = []
    for _ in range(2):
        with Device(
            tiny, "udp", keyed_edge["udp"], device=8, key=TWO, sequences=tmp_path / "sequence", timeout_s=PATIENCE_S
        ) as device:
            seen.append(device.infer(images[0]).sequence)
    assert seen == [0, 256]


def test_a_repeat_takes_a_new_sequence_and_is_answered(keyed_edge, tiny, images, link, tmp_path: Path):
    """Many frames are lost: many repeats, none of them a replay."""
    address = link("udp", keyed_edge["udp"], up=[{"channel": "erasure", "probability": 0.4}], seed=3)
    settings = {"key": ONE, "sequences": _after(tmp_path, 10_000), "timeout_s": 0.5, "retries": 12}
    with Device(tiny, "udp", address, device=7, **settings) as device:
        deliveries = [each for _, each in device.stream(recording_samples(tiny)[:60], window=8)]
    assert all(delivery.answer is not None for delivery in deliveries)
    attempts = sum(delivery.attempts for delivery in deliveries)
    assert attempts > 60
    answered = {delivery.answer.sequence for delivery in deliveries}
    assert len(answered) == 60 and max(answered) - 10_000 < attempts
    assert all(delivery.on_air_bytes == 36 * delivery.attempts for delivery in deliveries)


@pytest.mark.parametrize("way", WAYS)
def test_a_wrong_key_hears_nothing(way, keyed_edge, tiny, images, tmp_path: Path):
    settings = {"key": TWO, "sequences": tmp_path / "sequence", "timeout_s": 0.3, "retries": 0}
    with Device(tiny, way, keyed_edge[way], device=7, **settings) as device, pytest.raises(DeadlineExceeded, match="--device-id, --key-file"):
        device.infer(images[0])


def test_feedback_finds_the_answer_by_its_sequence(keyed_edge, tiny, images, tmp_path: Path):
    settings = {"key": ONE, "sequences": _after(tmp_path, 20_000), "timeout_s": PATIENCE_S}
    with Device(tiny, "udp", keyed_edge["udp"], device=7, feedback=keyed_edge["grpc"], **settings) as device:
        answer = device.infer(images[0])
        assert answer.sequence == 20_000 and device.feedback(answer, 1)


@pytest.mark.parametrize("mode", ["open", "keyed"])
def test_a_noisy_serial_line(mode, keyed_edge, tiny, tmp_path: Path):
    keyed = {"key": TWO, "sequences": _after(tmp_path, 30_000)} if mode == "keyed" else {}
    settings = {"damage": BitFlips(0.03, 1), "timeout_s": 5.0, "retries": 3} | keyed
    with Device(tiny, "serial", keyed_edge["serial"], device=8 if keyed else 31, **settings) as device:
        deliveries = [each for _, each in device.stream(recording_samples(tiny)[:100], window=16)]
    assert all(delivery.answer is not None for delivery in deliveries)
    overhead = 3 + (28 if keyed else 18)
    assert all(each.on_air_bytes == each.attempts * (overhead + 8) for each in deliveries)


@pytest.mark.parametrize("mode", ["open", "keyed"])
def test_a_line_that_flips_loses_and_adds_both_ways(mode, keyed_edge, tiny, link, tmp_path: Path):
    damage = [
        {"channel": "bsc", "ber": 0.02},
        {"channel": "byte_loss", "probability": 0.002},
        {"channel": "byte_insertion", "probability": 0.002},
    ]
    address = link("serial", keyed_edge["serial"], up=damage, down=damage, seed=4)
    keyed = {"key": TWO, "sequences": _after(tmp_path, 50_000)} if mode == "keyed" else {}
    settings = {"timeout_s": 1.0, "retries": 9} | keyed
    with Device(tiny, "serial", address, device=8 if keyed else 32, **settings) as device:
        deliveries = [each for _, each in device.stream(recording_samples(tiny)[:150], window=16)]
    assert all(delivery.answer is not None for delivery in deliveries)
    assert sum(delivery.attempts for delivery in deliveries) > 150


def test_a_serial_line_that_nobody_offers(tiny):
    with pytest.raises(Unavailable, match="cannot be reached"):
        create_transport("serial", "127.0.0.1:9")


@pytest.mark.parametrize(("way", "address"), [("serial", "127.0.0.1:9"), ("udp", "nosuch.invalid:9")])
def test_an_edge_that_is_not_there_yet_leaves_the_sequences_free(way, address, tmp_path: Path):
    for _ in range(2):
        with pytest.raises(Unavailable, match="cannot be reached"):
            create_transport(way, address, key=ONE, sequences=tmp_path / "sequence")
    SequenceFile(tmp_path / "sequence").close()


def test_a_file_of_ones_own_outlives_the_transport(tmp_path: Path):
    sequences = SequenceFile(tmp_path / "sequence")
    create_transport("udp", "127.0.0.1:9", key=ONE, sequences=sequences).close()
    assert sequences.take() == 0
    sequences.close()


def test_a_serial_line_is_connected_anew(tiny, images):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with Device(tiny, "serial", address, timeout_s=0.2, retries=2) as device:
            server.accept()[0].close()
            with pytest.raises((Unavailable, DeadlineExceeded)):
                device.infer(images[0])
            server.settimeout(5)
            again = server.accept()[0]
            assert again.recv(3) == bytes.fromhex("faf320")
            again.close()


def test_half_a_keyed_mode_is_refused(tiny):
    with pytest.raises(ConfigError, match="nowhere to keep sequences"):
        create_transport("udp", "127.0.0.1:9", key=ONE)
    with pytest.raises(ConfigError, match="sequences without a key"):
        create_transport("udp", "127.0.0.1:9", sequences="x")


def test_the_command_line(keyed_edge, tiny, tmp_path: Path, capsys):
    key = secret(tmp_path / "camera.key", f"{ONE}\n")
    (tmp_path / "camera.key.sequence").write_text("40000\n")
    table = tmp_path / "table.json"
    arguments = ["--recording", "--codec", str(tiny.folder), "--device-id", "7", "--count", "20", "--timeout", "20"]
    arguments += ["--transport", "serial", "--to", keyed_edge["serial"], "--key-file", str(key), "--json", str(table)]
    assert main([*arguments, "--feedback", keyed_edge["grpc"]]) == 0
    row = json.loads(table.read_text())["rows"][0]
    assert (row["images"], row["lost"], row["transport"]) == (20, 0, "serial")
    assert (tmp_path / "camera.key.sequence").read_text() == "40256\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--transport", "grpc", "--key-file", "x"], "--key-file is given with grpc"),
        (["--sequence-file", "x"], "--sequence-file is given alone"),
        (["--key-file", "/nowhere/key"], "cannot be read"),
        (["--transport", "serial", "--ber-estimate", "0.1"], "--ber-estimate is given with serial"),
    ],
)
def test_what_cannot_work_is_refused(arguments, message, tiny, capsys):
    assert main(["--recording", "--codec", str(tiny.folder), *arguments]) == 2
    assert message in capsys.readouterr().err


def _after(folder: Path, used: int) -> Path:
    """A sequence file of a device that has used so many already: one edge serves all these tests."""
    path = folder / "sequence"
    path.write_text(f"{used}\n")
    return path
