"""Messages of one stream that were read together and ask for the same, as one :class:`~edge_server.jobs.Group`; and its
answers, as the bytes of the messages that :func:`~edge_server.messages.to_response` would make, one by one."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache

from edge_server.access import CALLER
from edge_server.devices import DeviceTable
from edge_server.inference import MAX_NAME
from edge_server.jobs import Group
from edge_server.messages import common_response, to_error
from edge_server.repository import Repository
from semantic_codec.bundle import Level
from semantic_codec.errors import WeaklinkError
from weaklink.v1 import edge_pb2

_DOUBLE = struct.Struct("<d")


class Grouping:
    """Belongs to the event loop's thread."""

    def __init__(self, repository: Repository, devices: DeviceTable):
        self._repository, self._devices = repository, devices

    def split(
        self, requests: Sequence[edge_pb2.InferRequest], transport: str, deadline: float | None, done: Callable[[Group], None]
    ) -> tuple[list[Group], list[edge_pb2.InferRequest]]:
        """Groups of two or more, their ``items`` the request ids; and the requests that have to go alone: what is to be
        refused, and what asks for more than the best class of every task of whole bits."""
        caller, alone = CALLER.get(), []
        members: dict[tuple, list[tuple]] = {}
        for request in requests:
            device, ber = request.device, request.ber_estimate
            if (
                request.top_k > 1
                or request.erased
                or request.tasks
                or request.encoder_hash
                or not 0 <= ber <= 0.5
                or len(device) > MAX_NAME
                or len(request.request_id) > MAX_NAME
                or (caller is not None and not caller.may_speak_for(device))
            ):
                alone.append(request)
                continue
            source, estimate = edge_pb2.BER_SOURCE_REQUEST, None
            if not request.HasField("ber_estimate"):
                estimate = self._devices.estimated_ber(device) if device else None
                source = edge_pb2.BER_SOURCE_PRIOR if estimate is None else edge_pb2.BER_SOURCE_ESTIMATED
                ber = None if estimate is None else min(estimate, 0.5)
            level = request.level if request.HasField("level") else None
            key = request.codec, request.version, level, len(request.bitstream), source
            members.setdefault(key, []).append((request, ber))
        groups = []
        for (codec, version, number, size, source), found in members.items():
            level = self._level(codec, version, number, size)
            if level is None or len(found) < 2:
                alone += [request for request, _ in found]
                continue
            served = self._repository.get(codec, version)
            groups.append(
                Group(
                    transport,
                    done,
                    served,
                    level.number,
                    source,
                    [request.bitstream for request, _ in found],
                    [served.blind_ber if ber is None else ber for _, ber in found],
                    [request.device for request, _ in found],
                    [request.sequence for request, _ in found],
                    [request.request_id for request, _ in found],
                    deadline=deadline,
                )
            )
        return groups, alone

    def _level(self, codec: str, version: int, number: int | None, size: int) -> Level | None:
        """None where there is no such codec, or the length is not the level's."""
        try:
            served = self._repository.get(codec, version)
        except WeaklinkError:
            return None
        level = served.level_by_length.get(size)
        return level if number is None or (level is not None and level.number == number) else None


def encode_responses(group: Group) -> list[bytes]:
    """An InferResponse for each image of a group that ended. What several have in common is written once: parts of a
    message may be written one after the other (https://protobuf.dev/programming-guides/encoding/#last-one-wins)."""
    own = [
        edge_pb2.InferResponse(request_id=request_id, device=device, sequence=sequence).SerializeToString()
        if request_id or device or sequence
        else b""
        for request_id, device, sequence in zip(group.items, group.devices, group.sequences)
    ]
    if group.error is not None:
        refusal = edge_pb2.InferResponse(codec=group.served.name, error=to_error(group.error)).SerializeToString()
        return [part + refusal for part in own]
    common = {ber: common_response(group, ber).SerializeToString() for ber in set(group.bers)}
    results = [own, [common[ber] for ber in group.bers]]
    for task, best in group.answer.tasks.items():
        labels = group.served.classes[task]
        results.append([_result(task, index, labels[index]) + _DOUBLE.pack(score) for index, score in best])
    return [b"".join(parts) for parts in zip(*results)]


@lru_cache(4096)
def _result(task: str, index: int, label: str) -> bytes:
    """A result without the eight bytes of its confidence, which are the last."""
    score = edge_pb2.ClassScore(index=index, label=label, confidence=1.0)
    result = edge_pb2.TaskResult(task=task, top=[score])
    return edge_pb2.InferResponse(results=[result]).SerializeToString()[: -_DOUBLE.size]
