"""What all transports share: check a call, queue it, and end it in exactly one counted outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from edge_server.access import caller_name, check_speaks_for
from edge_server.answers import shared_given
from edge_server.devices import DeviceTable
from edge_server.engine import EngineRequest
from edge_server.jobs import Group, Call, Job
from edge_server.metrics import Metrics, error_label
from edge_server.repository import Repository, ServedCodec
from edge_server.scheduler import Scheduler, deadline_passed
from edge_server.trace_context import TRACEPARENT
from semantic_codec.bundle import Level
from semantic_codec.errors import EncoderMismatch, InvalidRequest, LimitReached, WeaklinkError
from weaklink.v1 import edge_pb2

MAX_NAME = 64  # characters of a device name or request id
MAX_ERASED = 256  # ranges
CANCELLED = "cancelled"
log = logging.getLogger(__name__)


class Inference:
    """The one way from a :class:`Call` to its end. Belongs to the event loop's thread.

    ``observers`` are told of each job that ended, in their order.
    """

    def __init__(
        self,
        repository: Repository,
        devices: DeviceTable,
        metrics: Metrics,
        clock: Callable[[], float],
        deadline_s: float,
        most_in_flight: int,
        observers: Sequence[Callable[[Job], None]] = (),
    ):
        self._repository, self._devices, self._metrics = repository, devices, metrics
        self._clock, self._deadline_s = clock, deadline_s
        self._most_in_flight = most_in_flight
        self._in_flight: dict[str, int] = {}
        self._observers = tuple(observers)
        self._scheduler: Scheduler | None = None

    def connect(self, scheduler: Scheduler) -> None:
        """Where checked jobs go; the scheduler in turn hands them back to :meth:`finish`."""
        self._scheduler = scheduler

    @property
    def observed(self) -> bool:
        """Whether somebody is told of each job."""
        return bool(self._observers)

    def submit(self, call: Call, done: Callable[[Job], None], refusal: WeaklinkError | None = None) -> Job:
        """Never raises: ``done(job)`` is called exactly once, for a refusal before this returns.

        ``refusal`` is what the transport already found wrong with the call.
        """
        now = self._clock()
        if self._observers:
            call.traceparent = TRACEPARENT.get()
        job = Job(call, done, now, now + self._deadline_s if call.deadline is None else call.deadline)
        try:
            if refusal is not None:
                raise refusal
            if job.deadline <= now:
                raise deadline_passed()
            self._check(job)
            self._enter(job)
            self._scheduler.put(job)
        except WeaklinkError as error:
            job.error = error
            error.__traceback__ = error.__cause__ = error.__context__ = None  # their frames hold the job
            self.finish(job)
        return job

    def submit_group(self, group: Group) -> list[Group]:
        """As :meth:`submit`, of images that the door has checked: names, the level's length, and whom the caller may
        speak for. What there is no room for leaves as a group of its own, as does what is more than one batch; what
        comes with others of its kind joins them. Returns the groups that are to end."""
        group.received = self._clock()
        if group.deadline is None:
            group.deadline = group.received + self._deadline_s
        if self._observers:
            group.traceparent = TRACEPARENT.get()
        room = self._scheduler.limits.queue - self._scheduler.depth
        group = self._enter_group(group)
        if group is None:
            return []
        cuts = {0, min(max(room, 0), group.images), *range(0, group.images, self._scheduler.limits.batch), group.images}
        parts = [
            group if end - begin == group.images else group.pick(range(begin, end))
            for begin, end in pairwise(sorted(cuts))
        ]
        return [part for part in parts if self._put(part)]

    def gone(self, transport: str, codec: str = "unknown", images: int = 1) -> None:
        """A caller went away before its request was whole, or ``images`` of one were not looked at since another was refused."""
        self._metrics.count(self._metrics.requests, transport, codec, CANCELLED, by=images)

    def abandon(self, job: Job) -> None:
        """Nobody waits for it any more."""
        job.abandon(self._clock())

    def finish(self, job: Job | Group) -> None:
        """Count each image's one outcome, remember its answer, tell its transport."""
        self._leave(job)
        if job.served is not None:
            job.served.statistics.ended(job)
        if job.entered:
            job.served.leave()
        transport = job.transport if isinstance(job, Group) else job.call.transport
        codec = job.served.name if job.served else "unknown"
        self._metrics.count(self._metrics.requests, transport, codec, outcome(job), by=job.images)
        try:
            if job.error is None and not job.cancelled:
                self._account(job)
            if self._observers:
                for each in job.jobs():
                    for observe in self._observers:
                        observe(each)
        except Exception:  # whoever waits is told all the same
            log.exception("a request over %s could not be accounted for", transport)
        try:
            # Who waited for a job often holds it: what each of them then leaves behind only the garbage collector would find.
            done, job.done = job.done, _told
            done(job)
        except Exception:  # a transport that fails to take its answer must not stop the others
            log.exception("an answer could not be delivered over %s", transport)

    def _put(self, group: Group) -> bool:
        """Whether it will end as a group of its own."""
        group.entered = True
        group.served.in_flight += 1
        try:
            if self._scheduler.put_group(group):
                group.served.in_flight -= 1  # part of another one now
                return False
        except WeaklinkError as error:
            group.error = error
            self.finish(group)
        return group.error is None

    def _enter_group(self, group: Group) -> Group | None:
        """What :meth:`_enter` lets in, the rest of each device having ended; None for nothing."""
        in_flight, most, refused = self._in_flight, self._most_in_flight, {}
        group.caller = caller_name()
        for row, device in enumerate(group.devices):
            holder = device or group.caller
            under_way = in_flight.get(holder, 0)
            if under_way >= most and holder:
                refused.setdefault(holder, []).append(row)
            else:
                in_flight[holder] = under_way + 1
        if not refused:
            return group
        for holder, rows in refused.items():
            part = group.pick(rows)
            part.error = self._too_many(holder)
            self.finish(part)
        rest = sorted(set(range(group.images)).difference(*refused.values()))
        return group.pick(rest) if rest else None

    def _enter(self, job: Job) -> None:
        """A device that sends faster than it is answered must not fill the queue alone. Nobody in particular may."""
        holder = job.call.device or caller_name()
        if not holder:
            return
        under_way = self._in_flight.get(holder, 0)
        if under_way >= self._most_in_flight:
            raise self._too_many(holder)
        self._in_flight[holder] = under_way + 1
        job.holder = holder

    def _too_many(self, holder: str) -> LimitReached:
        return LimitReached(
            f"device {holder!r} has {self._in_flight[holder]} requests under way",
            allowed=f"up to {self._most_in_flight}",
            fix="wait for answers, or raise --device-in-flight",
        )

    def _leave(self, job: Job | Group) -> None:
        in_flight = self._in_flight
        for holder in job.holders:
            under_way = in_flight[holder]
            if under_way == 1:
                del in_flight[holder]
            else:
                in_flight[holder] = under_way - 1

    def _check(self, job: Job) -> None:
        call = job.call
        check_speaks_for(call.device)
        served = job.served = self._repository.get(call.codec, call.version)
        if call.encoder_hash and call.encoder_hash != served.short_hash:
            raise _other_encoder(call.encoder_hash, served)
        level = _level(call, served)
        _check_names(call)
        _check_erased(call, level.payload_bytes * 8)
        tasks = _tasks(call, served)
        ber = self._ber(job, served)
        job.request = EngineRequest(
            served.name,
            served.version,
            level.number,
            call.bitstream,
            ber,
            call.erased,
            tasks,
            _top_k(call, served, tasks),
            served.revision,
        )
        served.in_flight += 1

    def _ber(self, job: Job, served: ServedCodec) -> float:
        given = job.call.ber
        if given is not None:
            if not 0 <= given <= 0.5:  # NaN fails this too
                raise InvalidRequest(
                    f"ber_estimate is {given}", allowed="0 to 0.5", fix="leave it unset where the BER is not known"
                )
            job.ber_source = edge_pb2.BER_SOURCE_REQUEST
            return given
        estimate = self._devices.estimated_ber(job.call.device) if job.call.device else None
        if estimate is not None:
            job.ber_source = edge_pb2.BER_SOURCE_ESTIMATED
            return min(estimate, 0.5)
        job.ber_source = edge_pb2.BER_SOURCE_PRIOR
        return served.blind_ber

    def _account(self, job: Job | Group) -> None:
        metrics, served, answer = self._metrics, job.served, job.answer
        metrics.observe_stages(
            job.started - job.received, answer.decode_s, answer.tail_s, job.finished - job.received, job.images
        )
        if job.ber_source == edge_pb2.BER_SOURCE_ESTIMATED:
            metrics.observe_all(metrics.estimated_ber, job.bers, served.name)
        best = []
        for task, top in answer.tasks.items():
            classes, confidences = zip(*top[:: len(top) // job.images])
            best.append(classes)
            metrics.observe_all(metrics.confidence, confidences, served.name, task)
        if any(job.devices):
            answers = map(partial(shared_given, served.name, served.version, tuple(answer.tasks)), *best)
            self._devices.remember_all(job.devices, job.sequences, job.bers, answers)


def _told(job: Job | Group) -> None:
    """In place of who was told already."""


def outcome(job: Job | Group) -> str:
    """The label of how a finished job ended: ok, cancelled, or the refusal's name."""
    if job.cancelled:
        return CANCELLED
    return "ok" if job.error is None else error_label(job.error)


def _level(call: Call, served: ServedCodec) -> Level:
    if call.level is None:
        level = served.level_by_length.get(len(call.bitstream))
        if level is None:
            raise _wrong_length(call, ", ".join(map(str, served.level_by_length)) + " bytes", served)
        return level
    if call.level >= len(served.levels):
        raise InvalidRequest(
            f"level is {call.level}",
            allowed=f"0 to {len(served.levels) - 1} for {served.name}",
            fix="see GetCodec for the codec's levels",
        )
    level = served.levels[call.level]
    if len(call.bitstream) != level.payload_bytes:
        raise _wrong_length(call, f"{level.payload_bytes} bytes at level {level.number}", served)
    return level


def _wrong_length(call: Call, allowed: str, served: ServedCodec) -> InvalidRequest:
    return InvalidRequest(
        f"bitstream has {len(call.bitstream)} bytes",
        allowed=f"{allowed} of {served.name}",
        fix="send the whole prefix of a level; mark lost bits in erased",
    )


def _other_encoder(encoder_hash: bytes, served: ServedCodec) -> WeaklinkError:
    """Of another length, as the whole hash has it or hexadecimal digits read as base64, it says nothing about the encoder."""
    if len(encoder_hash) != len(served.short_hash):
        return InvalidRequest(
            f"encoder_hash has {len(encoder_hash)} bytes",
            allowed=f"{len(served.short_hash)}, the first of the SHA-256 of encoder.bin",
            fix="send these, in base64 in JSON, in hexadecimal in a query and in the Open Inference Protocol",
        )
    return EncoderMismatch(
        f"encoder_hash is {encoder_hash.hex()}",
        allowed=f"{served.short_hash.hex()}, the encoder of {served.name} version {served.version}",
        fix="flash this version's encoder.bin, or name the version that the device has",
    )


def _check_names(call: Call) -> None:
    for name, value in (("device", call.device), ("request_id", call.request_id)):
        if len(value) > MAX_NAME:
            problem = f"{name} has {len(value)} characters"
            raise InvalidRequest(problem, allowed=f"up to {MAX_NAME}", fix="shorten it")


def _check_erased(call: Call, bits: int) -> None:
    if len(call.erased) > MAX_ERASED:
        raise InvalidRequest(
            f"erased has {len(call.erased)} ranges", allowed=f"up to {MAX_ERASED}", fix="merge neighbouring ranges"
        )
    for first, count in call.erased:
        if count < 1 or first + count > bits or first < 0:
            raise InvalidRequest(
                f"erased has first_bit {first}, bit_count {count}",
                allowed=f"ranges of at least 1 bit within the {bits} bits of the level",
                fix="count bits from the start of the bitstream",
            )


def _tasks(call: Call, served: ServedCodec) -> tuple[str, ...]:
    for task in call.tasks:
        if task not in served.classes:
            raise InvalidRequest(
                f"task is {task!r}", allowed=", ".join(served.task_names), fix="leave tasks empty to run all"
            )
    return call.tasks or served.task_names


def _top_k(call: Call, served: ServedCodec, tasks: tuple[str, ...]) -> int:
    if call.top_k <= 1:
        return 1
    most = max(len(served.classes[task]) for task in tasks)
    if call.top_k > most:
        raise InvalidRequest(
            f"top_k is {call.top_k}", allowed=f"up to {most}, the number of classes", fix="ask for fewer classes"
        )
    return call.top_k
