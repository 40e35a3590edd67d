"""The same bits through every door, and offline, on a trained codec."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest

from edge_server.engine import Engine
from semantic_codec.bundle import find_bundle, load_recording
from semantic_codec.frame import encode_frame
from semantic_codec.header import Header
from semantic_codec.reply import read_reply
from tests.edge_server.conftest import grpc_stub, running
from tests.edge_server.test_gateway import radio
from weaklink.v1 import edge_pb2

IMAGES = 24


async def test_grpc_http_udp_and_the_offline_engine_agree(tmp_path: Path):
    bundle = find_bundle("digits", roots=[Path(__file__).parents[2] / "bundles"])
    manifest = bundle.manifest
    shutil.copytree(bundle.folder, tmp_path / manifest.name / str(manifest.version))
    sent = load_recording(bundle).bitstreams[:IMAGES]
    flips = np.packbits(np.random.default_rng(0).random((IMAGES, 8 * sent.shape[1])) < 0.05, axis=1)
    received = sent ^ flips
    level = manifest.levels[-1].number
    (task,) = (each.name for each in manifest.tasks)
    used, online = [], []
    async with (
        running(tmp_path) as (_, at),
        radio(at["udp"]) as device,
        grpc_stub(at["grpc"]) as stub,
        httpx.AsyncClient(base_url=f"http://{at['http']}", trust_env=False) as http,
    ):
        for sequence, payload in enumerate(received):
            frame = encode_frame(Header(manifest.codec_id, level, 3, sequence), payload.tobytes(), bundle.encoder_hash)
            device.send(frame)
            raw = read_reply(await device.reply(), device=3)
            # Named as the same device and without a BER, the other doors use what the frames taught the edge.
            over_grpc = await stub.Infer(
                edge_pb2.InferRequest(bitstream=payload.tobytes(), device="3", sequence=sequence, top_k=10)
            )
            asked = {"bitstream": base64.b64encode(payload).decode(), "device": "3", "sequence": sequence}
            over_http = (await http.post("/v1/infer", json=asked)).json()
            best, other = over_grpc.results[0].top[0], over_http["results"][0]["top"][0]
            assert (other["index"], raw.class_index) == (best.index, best.index)
            assert other["confidence"] == pytest.approx(best.confidence, abs=1e-3)
            assert raw.confidence == pytest.approx(best.confidence, abs=0.5 / 63 + 1e-3)
            used.append(over_grpc.ber_used)
            scores = {score.index: score.confidence for score in over_grpc.results[0].top}
            online.append([scores[index] for index in range(10)])
    offline = Engine([bundle]).infer_arrays(
        manifest.name,
        np.unpackbits(received, axis=1, count=manifest.bits),
        np.full(IMAGES, level),
        np.array(used, np.float32),
    )
    np.testing.assert_allclose(offline[task], online, atol=1e-3)
