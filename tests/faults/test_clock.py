"""The wall clock jumps by days, as when a board without a battery finds a time server: nothing may depend on it."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

import grpc
import pytest

from semantic_codec.bundle import load_bundle
from semantic_codec.reply import ReplyStatus, read_reply
from tests.faults.clients import blocking_stub, infer_request, open_frame, udp_socket
from tests.faults.edge import PATIENCE_S, Edge

pytestmark = pytest.mark.timeout(600)  # on a machine that is busy with something else, too

STEPS_S = (0, 86_400, -40 * 365 * 86_400, 3_600, -3_600, 0)
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile const long long *step;

__attribute__((constructor)) static void open_step(void) {
    step = mmap(0, 8, PROT_READ, MAP_SHARED, open(getenv("CLOCK_STEP_FILE"), O_RDONLY | O_CLOEXEC), 0);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, now);
    if (!status && step && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *step;
    return status;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec time;
    (void)zone;
    int status = clock_gettime(CLOCK_REALTIME, &time);
    now->tv_sec = time.tv_sec;
    now->tv_usec = time.tv_nsec / 1000;
    return status;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""


@pytest.fixture
def clock(tmp_path: Path):
    """(environment of a process whose wall clock can be stepped, a function that steps it to so many seconds off)."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("the stepped clock is a small C library, and there is no C compiler (cc)")
    source, library, step = tmp_path / "clock.c", tmp_path / "clock.so", tmp_path / "step"
    source.write_text(SHIM)
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    step.write_bytes(bytes(8))

    def set_step(seconds: int) -> None:
        with open(step, "r+b") as file:
            file.write(struct.pack("=q", seconds))

    return {"LD_PRELOAD": str(library), "CLOCK_STEP_FILE": str(step)}, set_step


def test_clock_stepped(bundle_root: Path, tmp_path: Path, clock, figures):
    environment, step_to = clock
    bundle = load_bundle(bundle_root / "toy" / "2")
    answered = duplicates = 0
    with Edge(tmp_path, bundle_root, environment=environment) as edge, blocking_stub(edge) as stub:
        with udp_socket(edge) as device:
            for number, seconds in enumerate(STEPS_S):
                step_to(seconds)
                # Calls with the caller's deadline, calls with the server's, and frames that are repeated.
                for timeout in (PATIENCE_S, None):
                    answered += bool(stub.Infer(infer_request(), timeout=timeout).results)
                under_way = stub.Infer.future(infer_request(), timeout=PATIENCE_S)
                step_to(seconds + 7_200)
                answered += bool(under_way.result().results)
                step_to(seconds)
                frame = open_frame(bundle, number)
                device.send(frame)
                first = device.recv(1024)
                answered += read_reply(first, 7).status == ReplyStatus.ANSWERED
                step_to(seconds + 7_200)  # far beyond the age at which a number is free again
                device.send(frame)
                duplicates += device.recv(1024) == first
                os.kill(edge.process.pid, signal.SIGSTOP)
                with pytest.raises(grpc.RpcError) as late:
                    stub.Infer(infer_request(), timeout=0.05)
                os.kill(edge.process.pid, signal.SIGCONT)
                assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert edge.frames() == {"ok": len(STEPS_S), "duplicate": len(STEPS_S)}
        assert edge.stop() == 0
        log = edge.log()
    assert (answered, duplicates) == (4 * len(STEPS_S), len(STEPS_S)) and "Traceback" not in log
    figures(steps_s=STEPS_S, requests=4 * len(STEPS_S), answered=answered, duplicates_known=duplicates)
