"""What a server and its children cost, from Linux' /proc."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def family(process: int) -> list[int]:
    """The process and all its descendants."""
    found = [process]
    for each in found:  # grows while it is walked
        with suppress(OSError):
            for task in Path(f"/proc/{each}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def memory_mb(process: int) -> float:
    """Resident memory of the family in MB; pages that several share are counted once."""
    kilobytes = 0
    for each in family(process):
        with suppress(OSError, StopIteration):  # it may have ended by now
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
            kilobytes += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return kilobytes / 1e3


def busy_s() -> float:
    """Processor time of everything on this machine so far, seconds."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    idle, waiting = fields[3:5]
    return (sum(fields[:8]) - idle - waiting) / os.sysconf("SC_CLK_TCK")


def cpu_s(process: int) -> float:
    """Processor time of the family so far, seconds."""
    ticks = 0
    for each in family(process):
        with suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
