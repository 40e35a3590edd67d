"""tritonclient in a process of its own, driven by lines of JSON: its stubs and ours describe one package and exclude
each other from one process."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np


class TritonClient:
    """``ask(protocol, address, method, ...)`` calls a method of tritonclient's grpc or http client and returns what it
    returns; ``{"error", "status"}`` where it raises InferenceServerException."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, protocol: str, address: str, method: str, *arguments: Any, **named: Any) -> Any:
        print(json.dumps([protocol, address, method, arguments, named]), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, "the client died"
        return json.loads(answer)

    def close(self) -> None:
        self._process.communicate()


def main() -> None:
    import tritonclient.grpc
    import tritonclient.http
    from tritonclient.utils import InferenceServerException

    libraries = {"grpc": tritonclient.grpc, "http": tritonclient.http}
    clients: dict[tuple[str, str], Any] = {}
    for line in sys.stdin:
        protocol, address, method, arguments, named = json.loads(line)
        library = libraries[protocol]
        client = clients.get((protocol, address))
        if client is None:
            client = clients[protocol, address] = library.InferenceServerClient(address)
        try:
            if method == "infer":
                result = infer(protocol, library, client, *arguments, **named)
            elif method == "stream":
                result = stream(library, client, *arguments, **named)
            else:
                as_json = {"as_json": True} if protocol == "grpc" and method.startswith("get_") else {}
                result = getattr(client, method)(*arguments, **named, **as_json)
        except InferenceServerException as error:
            result = {"error": error.message(), "status": error.status()}
        print(json.dumps(result), flush=True)


def infer(
    protocol: str, library, client, model: str, inputs: dict, outputs: Sequence = (), raw: bool = True, **named
) -> dict[str, Any]:
    """inputs: name -> (datatype, nested values). outputs: (name, classes) pairs, or (name, region) in shared memory. raw:
    binary tensors over HTTP."""
    form = {"binary_data": raw} if protocol == "http" else {}
    wanted = []
    for name, classes in outputs:
        in_memory = isinstance(classes, str)
        wanted.append(library.InferRequestedOutput(name, class_count=0 if in_memory else classes, **form))
        if in_memory:
            wanted[-1].set_shared_memory(classes, 64)
    result = client.infer(model, tensors(library, inputs, form), outputs=wanted or None, **named)
    return described(result, result.get_response(as_json=True) if protocol == "grpc" else result.get_response())


def stream(library, client, model: str, batches: Sequence[dict], **named) -> list[dict[str, Any]]:
    """All batches on one stream, numbered, and what came back in its order: answers, or ``{"error"}``."""
    came: list[dict[str, Any]] = []
    ended = threading.Event()

    def take(result, error) -> None:
        if error is None:
            response = result.get_response(as_json=True)
            came.append(described(result, response) | {"parameters": response.get("parameters", {})})
        else:
            came.append({"error": error.message()})
        if len(came) == len(batches) or (error is not None and error.status() is not None):
            ended.set()

    client.start_stream(take)
    for number, inputs in enumerate(batches):
        client.async_stream_infer(model, tensors(library, inputs, {}), request_id=str(number), **named)
    ended.wait(60)
    client.stop_stream()
    return came


def tensors(library, inputs: dict, form: dict) -> list:
    """inputs: as above, or name -> (datatype, region) where they lie in shared memory."""
    from tritonclient.utils import triton_to_np_dtype

    given = []
    for name, (datatype, values) in inputs.items():
        if isinstance(values, str):
            given.append(library.InferInput(name, [1, 8], datatype))
            given[-1].set_shared_memory(values, 8)
            continue
        tensor = np.array(values, triton_to_np_dtype(datatype))
        given.append(library.InferInput(name, tensor.shape, datatype))
        given[-1].set_data_from_numpy(tensor, **form)
    return given


def described(result, response: dict) -> dict[str, Any]:
    arrays = {output["name"]: result.as_numpy(output["name"]) for output in response["outputs"]}
    return {
        "model": response["model_name"],
        "version": response["model_version"],
        "id": response.get("id", ""),
        "outputs": {
            name: [value.decode() for value in array.flat] if array.dtype == object else array.tolist()
            for name, array in arrays.items()
        },
    }


if __name__ == "__main__":
    main()
