"""Ways to the edge: a serial line, or any other stream, and UDP. Both send a frame and wait for its reply."""

import time

from .errors import InvalidRequest, Unavailable

SYNC = b"\xfa\xf3\x20"
_SYNC_WORD, _SYNC_ERRORS = 0xFAF320, 5


class Transport:
    """One frame at a time, repeated until its reply is there.

    timeout_s: wait for a reply per transmission, and for a stream to take the next byte. retries: repeats of the same
    frame. unreadable: what arrived and was no reply, too damaged, or late.
    """

    def __init__(self, timeout_s, retries):
        if timeout_s <= 0 or retries < 0:
            raise InvalidRequest(
                "timeout_s is %s, retries %s" % (timeout_s, retries), "above 0; 0 or more", "leave them out"
            )
        self.timeout_s, self.retries = timeout_s, retries
        self.unreadable = 0

    def exchange(self, next_frame, read, reply_bytes):
        """Send and wait: (what `read` makes of the first reply, transmissions), None where none came.

        next_frame: makes the frame of each transmission. read: reply_bytes bytes -> a reply, or None where they are none.
        """
        self._expected(reply_bytes)
        for attempt in range(self.retries + 1):
            self._send(next_frame())
            since = time.ticks_ms()
            while True:
                left = int(self.timeout_s * 1000) - time.ticks_diff(time.ticks_ms(), since)
                if left <= 0:
                    break
                data = self._receive(left)
                if data is None:
                    continue
                reply = read(data)
                if reply is not None:
                    self._found()
                    return reply, attempt + 1
                self.unreadable += 1
        return None, self.retries + 1

    def close(self):
        pass

    def _expected(self, reply_bytes):
        pass

    def _found(self):
        pass


class StreamTransport(Transport):
    """A UART, or another stream whose `read(n)` gives None or b"" while there is nothing to read.

    Each frame follows the sync word FA F3 20. One that arrives damaged is recognised in up to 5 wrong bits of 24, and
    nothing is escaped, so flipped bits cost no more than the frame that they fall in, lost bytes seldom the next, too.

    StreamTransport(machine.UART(1, 57600, timeout=0))
    """

    def __init__(self, stream, timeout_s=1.0, retries=2):
        super().__init__(timeout_s, retries)
        self._stream = stream
        self._word = 0
        self._count = 0
        self._recent = bytearray(0)
        self._due = []  # counts of bytes at which a reply may be complete
        self._waiting = b""

    def _expected(self, reply_bytes):
        if len(self._recent) != reply_bytes:
            self._recent = bytearray(reply_bytes)
            self._due.clear()

    def _send(self, frame):
        data = memoryview(SYNC + bytes(frame))
        since = time.ticks_ms()
        while data:
            written = self._stream.write(data)
            if written:
                data = data[written:]
                since = time.ticks_ms()
            elif time.ticks_diff(time.ticks_ms(), since) < self.timeout_s * 1000:
                time.sleep_ms(1)
            else:
                return  # lost, as on any radio: silence tells

    def _receive(self, wait_ms):
        if not self._waiting:
            self._waiting = self._stream.read(64) or b""
            if not self._waiting:
                time.sleep_ms(1)
        size = len(self._recent)
        for place, byte in enumerate(self._waiting):
            self._recent[self._count % size] = byte
            self._count += 1
            if self._due and self._due[0] == self._count:
                self._due.pop(0)
                self._expect(byte)
                self._waiting = self._waiting[place + 1 :]
                split = self._count % size
                return bytes(self._recent[split:]) + bytes(self._recent[:split])
            self._expect(byte)
        self._waiting = b""
        return None

    def _expect(self, byte):
        """Whether this byte ends a sync word."""
        self._word = (self._word << 8 | byte) & 0xFFFFFF
        wrong = self._word ^ _SYNC_WORD
        errors = 0
        while wrong:
            wrong &= wrong - 1
            errors += 1
        if errors <= _SYNC_ERRORS and self._count >= len(SYNC):
            self._due.append(self._count + len(self._recent))

    def _found(self):
        # What looked like a sync word inside of a reply was none.
        self._due.clear()


class UdpTransport(Transport):
    """One UDP socket, where the board has a network. address: "HOST:PORT"."""

    def __init__(self, address, timeout_s=1.0, retries=2):
        super().__init__(timeout_s, retries)
        try:
            import socket
        except ImportError:
            raise Unavailable("this board has no sockets", "a stream", "use StreamTransport on a UART")
        host, port = split_address(address)
        try:
            family, kind, protocol, _, self._address = socket.getaddrinfo(host, port, 0, socket.SOCK_DGRAM)[0]
            self._socket = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as error:
            raise Unavailable("%s cannot be reached: %s" % (address, error), "an edge's UDP address", "correct it")

    def _send(self, frame):
        try:
            self._socket.sendto(frame, self._address)
        except OSError:
            pass  # lost, as on any radio: silence tells

    def _receive(self, wait_ms):
        self._socket.settimeout(max(wait_ms, 1) / 1000)
        try:
            return self._socket.recv(256)
        except OSError:
            return None

    def close(self):
        self._socket.close()


def split_address(address):
    """("HOST", port) of "HOST:PORT"."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidRequest("the address is %r" % address, "HOST:PORT", "name both, as in 192.168.1.10:50052")
    return host, int(port)
