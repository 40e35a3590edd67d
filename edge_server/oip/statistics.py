"""The statistics extension: what served bundles have done, as the protocol names it."""

from __future__ import annotations

from typing import Any

from edge_server.repository import ServedCodec


def statistics(served: ServedCodec, since_last_s: float, now_s: float) -> dict[str, Any]:
    """Fields of ModelStatistics. now_s: since 1970; since_last_s: how long before that the last image was answered.

    Each image counts as a request. What the sum of queue, decoder and tail leaves of the whole is the way to the engine and
    back.
    """
    sums = served.statistics
    rest = max(0.0, sums.total_s - sums.queue_s - sums.decode_s - sums.tail_s)

    def duration(count: int, seconds: float) -> dict[str, int]:
        return {"count": count, "ns": round(1e9 * seconds)}

    return {
        "name": served.name,
        "version": str(served.version),
        "last_inference": round(1e3 * (now_s - since_last_s)) if sums.answered else 0,
        "inference_count": sums.answered,
        "execution_count": sums.passes,
        "inference_stats": {
            "success": duration(sums.answered, sums.total_s),
            "fail": duration(sums.failed, sums.failed_s),
            "queue": duration(sums.answered, sums.queue_s),
            "compute_input": duration(sums.answered, sums.decode_s),
            "compute_infer": duration(sums.answered, sums.tail_s),
            "compute_output": duration(sums.answered, rest),
        },
    }
