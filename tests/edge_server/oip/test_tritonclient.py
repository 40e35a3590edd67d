"""The Open Inference Protocol as a client that nobody here wrote speaks it, over gRPC and HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from edge_server.engine import Engine
from edge_server.server import EdgeServer
from semantic_codec.bundle import Bundle, load_bundle
from tests.edge_server.conftest import make_bundle, running, sample
from tests.edge_server.oip.triton_client import TritonClient

PROTOCOLS = ("grpc", "http")


@contextlib.asynccontextmanager
async def serving(triton: TritonClient, root: Path, **settings) -> AsyncIterator[tuple[EdgeServer, Callable]]:
    """A server, and ``ask(protocol, method, ...)``, which leaves the event loop, and with it the server, free."""
    async with running(root, **settings) as (server, at):

        async def ask(protocol: str, method: str, *arguments, **named):
            return await asyncio.to_thread(triton.ask, protocol, at[protocol], method, *arguments, **named)

        yield server, ask


def probabilities(bundle: Bundle, bitstreams: np.ndarray, ber: list[float], level: int = 2) -> dict[str, np.ndarray]:
    padded = np.zeros((len(bitstreams), 8), np.uint8)
    padded[:, : bitstreams.shape[1]] = bitstreams
    count = len(bitstreams)
    return Engine([bundle]).infer_arrays(
        "toy", np.unpackbits(padded, axis=1), np.full(count, level), np.array(ber, np.float32)
    )


async def test_inference_is_the_engine_s(triton: TritonClient, bundle_root: Path, bundle: Bundle, bitstreams: np.ndarray):
    rows, ber = bitstreams[:3], [0.0, 0.01, 0.1]
    expected = probabilities(bundle, rows, ber)
    inputs = {"bitstream": ("UINT8", rows.tolist()), "ber_estimate": ("FP32", ber)}
    async with serving(triton, bundle_root) as (server, ask):
        for protocol in PROTOCOLS:
            for raw in (True, False) if protocol == "http" else (True,):
                answer = await ask(protocol, "infer", "toy", inputs, raw=raw, request_id="seven")
                assert (answer["model"], answer["version"], answer["id"]) == ("toy", "2", "seven")
                outputs = answer["outputs"]
                assert outputs.keys() == {
                    "probabilities", "class", "colour_probabilities", "colour_class", "ber_used", "advised_level",
                }  # fmt: skip
                np.testing.assert_allclose(outputs["probabilities"], expected["shape"], atol=1e-5)
                np.testing.assert_allclose(outputs["colour_probabilities"], expected["colour"], atol=1e-5)
                assert outputs["class"] == expected["shape"].argmax(1)[:, None].tolist()
                assert np.array(outputs["ber_used"]).ravel().tolist() == pytest.approx(ber)
                assert outputs["advised_level"] == [[1], [1], [2]]
        assert sample(server, "weaklink_requests_total", transport="oip-grpc", codec="toy", outcome="ok") == 3
        assert sample(server, "weaklink_requests_total", transport="oip-http", codec="toy", outcome="ok") == 6

        # BYTES of two lengths in one batch, a lost bit, the prior for want of a BER, one output only.
        erased = np.zeros((1, 64), bool)
        erased[0, 5] = True
        for protocol in PROTOCOLS:
            short = await ask(protocol, "infer", "toy", {"bitstream": ("UINT8", rows[:1, :2].tolist())}, (("ber_used", 0),))
            assert short["outputs"] == {"ber_used": [[pytest.approx(0.02)]]}
            lost = await ask(
                protocol, "infer", "toy", {"bitstream": inputs["bitstream"][:1] + (rows[:1].tolist(),), "erased": ("BOOL", erased.tolist()),
                                           "ber_estimate": ("FP32", [0.0])},
                (("probabilities", 0),),
            )  # fmt: skip
            assert not np.allclose(lost["outputs"]["probabilities"][0], expected["shape"][0], atol=1e-5)
            top = await ask(protocol, "infer", "toy", {**inputs}, (("probabilities", 2),))
            best = [text.split(":") for text in top["outputs"]["probabilities"]]
            assert len(best) == 6 and int(best[0][1]) == expected["shape"][0].argmax() and best[0][2].startswith("shape-")


async def test_the_first_version_answers_where_it_is_named(triton: TritonClient, bundle_root: Path, bitstreams: np.ndarray):
    old = probabilities(load_bundle(bundle_root / "toy" / "1"), bitstreams[:1], [0.0])["shape"]
    inputs = {"bitstream": ("UINT8", bitstreams[:1].tolist()), "ber_estimate": ("FP32", [[0.0]])}
    async with serving(triton, bundle_root) as (_, ask):
        for protocol in PROTOCOLS:
            answer = await ask(protocol, "infer", "toy", inputs, model_version="1")
            assert answer["version"] == "1"
            np.testing.assert_allclose(answer["outputs"]["probabilities"], old, atol=1e-5)


async def test_health_and_descriptions(triton: TritonClient, bundle_root: Path):
    async with serving(triton, bundle_root) as (_, ask):
        for protocol in PROTOCOLS:
            assert await ask(protocol, "is_server_live") and await ask(protocol, "is_server_ready")
            assert await ask(protocol, "is_model_ready", "toy") and await ask(protocol, "is_model_ready", "toy", "1")
            assert not await ask(protocol, "is_model_ready", "toy", "3") and not await ask(protocol, "is_model_ready", "none")
            server = await ask(protocol, "get_server_metadata")
            assert server["name"] == "weaklink" and "model_repository" in server["extensions"]
            model = await ask(protocol, "get_model_metadata", "toy")
            assert (model["name"], model["versions"]) == ("toy", ["1", "2"])
            first = model["inputs"][0]
            assert (first["name"], first["datatype"], [int(size) for size in first["shape"]]) == ("bitstream", "UINT8", [-1, -1])
            config = await ask(protocol, "get_model_config", "toy")
            config = config.get("config", config)
            assert config["max_batch_size"] == 64 and config["input"][1]["optional"]
            assert config["output"][0]["data_type"] == "TYPE_FP32"


async def test_refusals_have_our_statuses_and_are_counted(triton: TritonClient, bundle_root: Path, bitstreams: np.ndarray):
    good = {"bitstream": ("UINT8", bitstreams[:1].tolist())}
    cases = [
        ("none", good, "NOT_FOUND", "404", "codec 'none'"),
        ("toy", {}, "INVALID_ARGUMENT", "400", "there is no input 'bitstream'"),
        ("toy", {"bitstream": ("UINT8", [[1, 2, 3]])}, "INVALID_ARGUMENT", "400", "bitstream has 3 bytes"),
        ("toy", {"bitstream": ("FP32", [[1.0]])}, "INVALID_ARGUMENT", "400", "'bitstream' is float32"),
        ("toy", good | {"ber_estimate": ("FP32", [0.7])}, "INVALID_ARGUMENT", "400", "ber_estimate is 0.69"),
        ("toy", good | {"ber_estimate": ("FP32", [0.1, 0.1])}, "INVALID_ARGUMENT", "400", "has the shape [2]"),
        ("toy", good | {"colour": ("FP32", [0.7])}, "INVALID_ARGUMENT", "400", "input 'colour'"),
        ("toy", {"bitstream": ("UINT8", [[0] * 8] * 65)}, "INVALID_ARGUMENT", "400", "the request has 65 images"),
    ]  # fmt: skip
    async with serving(triton, bundle_root) as (server, ask):
        for protocol in PROTOCOLS:
            for model, inputs, status, number, problem in cases:
                told = await ask(protocol, "infer", model, inputs)
                assert problem in told["error"] and "; fix: " in told["error"]
                assert told["status"] == (f"StatusCode.{status}" if protocol == "grpc" else number)
        refused = server.metrics.registry.collect()
        counted = sum(
            one.value
            for metric in refused if metric.name == "weaklink_requests"
            for one in metric.samples if one.name.endswith("_total")
        )  # fmt: skip
        assert counted == len(PROTOCOLS) * len(cases)
        two = {"bitstream": ("BYTES", ["\0" * 8, "\0" * 3])}
        assert "bitstream has 3 bytes" in (await ask("grpc", "infer", "toy", two))["error"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_bundles_load_and_unload(triton: TritonClient, tmp_path: Path, bitstreams: np.ndarray, protocol: str):
    make_bundle(tmp_path)
    inputs = {"bitstream": ("UINT8", bitstreams[:1].tolist())}
    async with serving(triton, tmp_path) as (server, ask):

        async def version() -> str | None:
            return (await ask(protocol, "infer", "toy", inputs)).get("version")

        async def states() -> dict[tuple[str, str], str]:
            index = await ask(protocol, "get_model_repository_index")
            models = index["models"] if protocol == "grpc" else index
            return {(one["name"], one["version"]): one["state"] for one in models}

        make_bundle(tmp_path, version=2)
        assert await version() == "1" and await states() == {("toy", "1"): "READY", ("toy", "2"): "UNAVAILABLE"}
        await ask(protocol, "load_model", "toy")
        assert await version() == "2" and set((await states()).values()) == {"READY"}

        broken = make_bundle(tmp_path, version=3)
        (broken / "edge.safetensors").write_bytes(b"nothing")
        told = await ask(protocol, "load_model", "toy")
        assert "toy/3 was refused" in told["error"] and await version() == "2", "a failed load keeps what served"

        await ask(protocol, "unload_model", "toy")
        assert await version() is None and not await ask(protocol, "is_model_ready", "toy")
        told = await ask(protocol, "infer", "toy", inputs)
        assert told["status"] == ("StatusCode.NOT_FOUND" if protocol == "grpc" else "404")
        assert "codec 'toy'" in (await ask(protocol, "unload_model", "toy"))["error"]
        assert "has no bundle" in (await ask(protocol, "load_model", ".."))["error"]
        told = await ask(protocol, "load_model", "toy", config=json.dumps({"max_batch_size": 1}))
        assert "parameter 'config'" in told["error"]

        (broken / "bundle.json").unlink()
        (tmp_path / "toy" / "default").write_text("1\n")
        await ask(protocol, "load_model", "toy")
        assert await version() == "1", "the default file says so"


async def test_a_server_open_to_the_network_lets_nobody_unload(triton: TritonClient, bundle_root: Path):
    async with serving(triton, bundle_root, model_control="false") as (_, ask):
        for protocol, status in (("grpc", "StatusCode.PERMISSION_DENIED"), ("http", "403")):
            for method in ("load_model", "unload_model"):
                assert (await ask(protocol, method, "toy"))["status"] == status
            assert await ask(protocol, "is_model_ready", "toy")


async def test_a_stream_answers_in_order_and_goes_on_after_a_refusal(
    triton: TritonClient, bundle_root: Path, bundle: Bundle, bitstreams: np.ndarray
):
    batches = [{"bitstream": ("UINT8", bitstreams[start : start + 1 + start % 3].tolist())} for start in range(30)]
    batches[7] = {"bitstream": ("UINT8", [[1, 2, 3]])}
    async with serving(triton, bundle_root, stream_window=4) as (server, ask):
        came = await ask("grpc", "stream", "toy", batches)
        assert "bitstream has 3 bytes" in came.pop(7)["error"]
        assert [answer["id"] for answer in came] == [str(number) for number in range(30) if number != 7]
        for answer in came:
            start = int(answer["id"])
            rows = bitstreams[start : start + 1 + start % 3]
            expected = probabilities(bundle, rows, [0.02] * len(rows))["shape"]
            np.testing.assert_allclose(answer["outputs"]["probabilities"], expected, atol=1e-5)
        images = sum(1 + start % 3 for start in range(30) if start != 7)
        assert sample(server, "weaklink_requests_total", transport="oip-grpc", codec="toy", outcome="ok") == images
        ends = await ask("grpc", "stream", "toy", batches[:1], enable_empty_final_response=True)
        assert ends[0]["parameters"] == {"triton_final_response": {"bool_param": True}}


async def test_statistics(triton: TritonClient, bundle_root: Path, bitstreams: np.ndarray):
    begun = time.time()
    async with serving(triton, bundle_root) as (_, ask):
        for protocol in PROTOCOLS:
            before = await statistics_of(ask, protocol, "toy", "2")
            for count in (3, 1):
                await ask(protocol, "infer", "toy", {"bitstream": ("UINT8", bitstreams[:count].tolist())})
            await ask(protocol, "infer", "toy", {"bitstream": ("UINT8", [[1, 2, 3]])})
            after = await statistics_of(ask, protocol, "toy", "2")
            grown = {name: after[name] - before[name] for name in ("inference_count", "execution_count")}
            assert grown == {"inference_count": 4, "execution_count": 2}
            assert 1000 * begun - 1 <= after["last_inference"] <= 1000 * time.time() + 1
            times = after["inference_stats"]
            assert times["fail"]["count"] - before["inference_stats"]["fail"]["count"] == 1
            stages = [times[stage] for stage in ("queue", "compute_input", "compute_infer", "compute_output")]
            assert {stage["count"] for stage in stages} == {times["success"]["count"]} == {after["inference_count"]}
            assert sum(stage["ns"] for stage in stages) == pytest.approx(times["success"]["ns"], rel=1e-6)
            assert times["compute_infer"]["ns"] > 0

            first = await statistics_of(ask, protocol, "toy", "1")
            assert first["inference_count"] == first["last_inference"] == first["inference_stats"]["success"]["ns"] == 0
            everything = await ask(protocol, "get_inference_statistics")
            assert [one["version"] for one in everything["model_stats"]] == ["1", "2"]
            told = await ask(protocol, "get_inference_statistics", "none")
            assert told["status"] == ("StatusCode.NOT_FOUND" if protocol == "grpc" else "404")


async def statistics_of(ask: Callable, protocol: str, model: str, version: str) -> dict:
    """One model's, numbers as such: gRPC's as_json leaves out zeros and writes uint64 as text."""
    told = await ask(protocol, "get_inference_statistics", model, version)
    (stats,) = told["model_stats"]

    def numbers(given: dict) -> dict:
        read = {key: numbers(value) if isinstance(value, dict) else int(value) for key, value in given.items() if key not in ("name", "version")}
        return Zeros(read)

    return numbers(stats)


class Zeros(dict):
    def __missing__(self, key: str) -> int:
        return 0


async def test_what_is_not_served_says_so_and_what_to_do(triton: TritonClient, bundle_root: Path):
    calls = [
        ("get_system_shared_memory_status", (), "send tensors"),
        ("register_system_shared_memory", ("region", "/key", 64), "send tensors"),
        ("unregister_system_shared_memory", (), "send tensors"),
        ("get_cuda_shared_memory_status", (), "send tensors"),
        ("get_trace_settings", (), "--otlp-endpoint"),
        ("get_trace_settings", ("toy",), "--otlp-endpoint"),
        ("get_log_settings", (), "--log-level"),
    ]
    async with serving(triton, bundle_root) as (_, ask):
        for protocol in PROTOCOLS:
            for method, arguments, fix in calls:
                told = await ask(protocol, method, *arguments)
                assert told["status"] == ("StatusCode.UNIMPLEMENTED" if protocol == "grpc" else "501"), method
                assert "is not served; allowed: " in told["error"] and fix in told["error"]
            lies = await ask(protocol, "infer", "toy", {"bitstream": ("UINT8", "region")})
            assert "input 'bitstream' lies in shared memory 'region'" in lies["error"]
            lies = await ask(protocol, "infer", "toy", {"bitstream": ("UINT8", [[0] * 8])}, (("class", "region"),))
            assert "output 'class' lies in shared memory 'region'" in lies["error"]
