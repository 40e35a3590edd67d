"""What one bundle has done since it was loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_server.jobs import Group, Job


class CodecStatistics:
    """Sums over its images; times in seconds, each image's as if it had been alone in its batch. ``last``: when the last
    one was answered, on the server's monotonic clock; 0.0: none was. ``passes``: batches that it had images in."""

    __slots__ = ("answered", "total_s", "queue_s", "decode_s", "tail_s", "failed", "failed_s", "passes", "last", "_started")

    def __init__(self) -> None:
        self.answered = self.failed = self.passes = 0
        self.total_s = self.queue_s = self.decode_s = self.tail_s = self.failed_s = 0.0
        self.last = self._started = 0.0

    def ended(self, job: Job | Group) -> None:
        """Count what ended: answered, or refused, late or given up."""
        images, answer = job.images, job.answer
        if answer is None or job.cancelled:
            self.failed += images
            self.failed_s += images * max(0.0, job.finished - job.received)
            return
        self.answered += images
        self.total_s += images * (job.finished - job.received)
        self.queue_s += images * (job.started - job.received)
        self.decode_s += images * answer.decode_s
        self.tail_s += images * answer.tail_s
        self.last = job.finished
        # Batches are delivered one after the other, each with one time at which it started.
        if job.started != self._started:
            self._started = job.started
            self.passes += 1
