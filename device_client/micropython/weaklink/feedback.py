"""Ground truth for earlier answers, over the edge's HTTP door: it feeds the edge's accuracy metrics."""

import json
import socket

from .errors import Unavailable


def report(address, device, sequence, true_class, codec, task, token=None, timeout_s=5):
    """Whether the edge still knew the answer. address: (host, port). token: where the edge asks for one; it goes in the
    clear. :class:`Unavailable` where the edge does not take it."""
    body = json.dumps(
        {"device": str(device), "sequence": sequence, "true_class": true_class, "codec": codec, "task": task}
    ).encode()
    head = "POST /v1/feedback HTTP/1.0\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    head = head % (address[0], len(body)) + ("" if token is None else "Authorization: Bearer %s\r\n" % token)
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(address[0], address[1], 0, socket.SOCK_STREAM)[0]
        line = socket.socket(family, socket.SOCK_STREAM)
        try:
            line.settimeout(timeout_s)
            line.connect(target)
            line.write((head + "\r\n").encode() + body)
            status = line.readline().split()
            while line.readline().strip():
                pass
            answer = line.read()
        finally:
            line.close()
    except OSError as error:
        problem = "%s:%d cannot be reached: %s" % (address[0], address[1], error)
        raise Unavailable(problem, "the edge's HTTP address", "correct it")
    if len(status) < 2 or status[1] != b"200":
        fix = "pass the device's token" if status[1:2] in ([b"401"], [b"403"]) else "see the edge's log"
        raise Unavailable("the edge answered %r: %r" % (status, answer[:200]), "status 200", fix)
    return json.loads(answer)["matched"]
