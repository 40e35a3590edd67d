"""Ground truth for earlier answers: what turns predictions into an accuracy that Prometheus can plot."""

from __future__ import annotations

from dataclasses import dataclass

from edge_server.access import check_speaks_for
from edge_server.devices import DeviceTable
from edge_server.metrics import Metrics
from edge_server.repository import Repository
from semantic_codec.errors import InvalidRequest, NotFound, WeaklinkError


@dataclass(frozen=True)
class Verdict:
    """``matched``: the answer was remembered. ``correct``: it was right."""

    matched: bool
    correct: bool = False


class FeedbackJudge:
    """Outcomes counted: ok, unknown (never answered, or forgotten), repeated, invalid."""

    def __init__(self, repository: Repository, devices: DeviceTable, metrics: Metrics):
        self._repository, self._devices, self._metrics = repository, devices, metrics

    def judge(self, device: str, sequence: int, codec: str, task: str, true_class: int) -> Verdict:
        """Compare once. InvalidRequest or NotFound: a codec, task or class that does not exist;
        PermissionDenied: another device's."""
        try:
            label, verdict = self._judge(device, sequence, codec, task, true_class)
        except WeaklinkError:
            self.refuse()
            raise
        self._metrics.count(self._metrics.feedback, label)
        return verdict

    def refuse(self) -> None:
        """Count what its door could not read."""
        self._metrics.count(self._metrics.feedback, "invalid")

    def _judge(self, device: str, sequence: int, codec: str, task: str, true_class: int) -> tuple[str, Verdict]:
        check_speaks_for(device)
        if codec:
            self._repository.get(codec)
        answer = self._devices.remembered(device, sequence)
        if answer is None or codec not in ("", answer.given.codec):
            return "unknown", Verdict(matched=False)
        given = answer.given
        try:
            classes = self._repository.get(given.codec, given.version).classes
        except NotFound:  # unloaded since
            return "unknown", Verdict(matched=False)
        task = task or next(iter(classes))
        if task not in classes or not 0 <= true_class < len(classes[task]):
            allowed = f"0 to {len(classes[task]) - 1}" if task in classes else f"tasks {', '.join(classes)}"
            raise InvalidRequest(
                f"true_class is {true_class} of task {task!r}", allowed=allowed, fix="see GetCodec for the classes"
            )
        if task not in given.classes:
            return "unknown", Verdict(matched=False)
        correct = given.classes[task] == true_class
        if task in answer.judged:
            return "repeated", Verdict(matched=True, correct=correct)
        answer.judged.add(task)
        self._devices.judge(device, correct)
        self._metrics.judged(given.codec, task, answer.ber, correct)
        return "ok", Verdict(matched=True, correct=correct)
