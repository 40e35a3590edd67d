"""The tail-biting convolutional code of headers and replies, the check inside it, and the order of bits on the air.

docs/wire-format.md gives the format. Rate 1/3, 256 states, some bits dropped: blocks of 7 bytes, open mode's, are coded as
18, those of 11, keyed mode's, as 28.
"""

from array import array

_CODED_BYTES = {7: 18, 11: 28}
_STRIDES = {18: 89, 28: 139}
"""By coded bytes: header bits are sent at multiples of so many places."""

_GENERATORS = (0o557, 0o663, 0o711)
_FORBIDDEN = 20000  # far above any true path's cost


def _zero_outputs():
    """The three coded bits of states 0 to 127 when a 0 enters; a state's lowest bit is the newest."""
    table = bytearray(128)
    for bit in range(7):
        column = 0
        for generator in _GENERATORS:
            column = column << 1 | generator >> (7 - bit) & 1
        for state in range(1 << bit):
            table[1 << bit | state] = table[state] ^ column
    return table


_OUTPUTS = _zero_outputs()


def check(data, crc=0xFFFF):
    """CRC-16, polynomial 0x1021, nothing reflected; 0 over bytes that end in their own check."""
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021) & 0xFFFF if crc & 0x8000 else crc << 1
    return crc


def with_check(packed, start):
    """Five bytes and their check behind them: seven."""
    crc = check(packed, start)
    return packed + bytes((crc >> 8, crc & 255))


def encode_block(block):
    """7 or 11 bytes -> 18 or 28 bytes of coded bits."""
    coded = bytearray(_CODED_BYTES[len(block)])
    most, all = 8 * len(coded), 24 * len(block)
    state = block[-1]  # the last eight bits stand before the first: the newest is the lowest
    drop = place = 0
    for step in range(8 * len(block)):
        bit = block[step >> 3] >> (7 - (step & 7)) & 1
        # Both ends of every generator are 1: the newest and the oldest bit each turn all three over.
        triple = _OUTPUTS[state & 127] ^ (7 if state >> 7 ^ bit else 0)
        state = (state << 1 | bit) & 255
        for k in (4, 2, 1):
            drop += most
            if drop >= all:
                drop -= all
                if triple & k:
                    coded[place >> 3] |= 128 >> (place & 7)
                place += 1
    return coded


def spread(coded, payload):
    """The bits of header and payload in their order on the air: as many bytes as both together."""
    header_bits, payload_bits = 8 * len(coded), 8 * len(payload)
    total, header_step = header_bits + payload_bits, _STRIDES[len(coded)]
    step = stride(payload_bits)
    air = bytearray(total >> 3)
    accumulator = header = body = 0
    for place in range(total):
        accumulator += header_bits
        if accumulator >= total:
            accumulator -= total
            bit = coded[header >> 3] << (header & 7) & 128
            header = (header + header_step) % header_bits
        else:
            bit = payload[body >> 3] << (body & 7) & 128
            body = (body + step) % payload_bits
        if bit:
            air[place >> 3] |= 128 >> (place & 7)
    return air


def stride(bits):
    """The step through that many bits: 89/144 of them, at least 1, increased until coprime."""
    step = max(1, bits * 89 // 144)
    while True:
        a, b = step, bits
        while b:
            a, b = b, a % b
        if a <= 1:
            return step
        step += 1


class BlockDecoder:
    """Reads coded blocks of which a run of eight bits or more is known: one lap of the Viterbi algorithm.

    Works in 5 KB that it keeps; costs are numbers of wrong bits, all in small integers.
    """

    def __init__(self, block_bytes=7, list_size=4):
        self.block_bytes, self.bits, self.coded_bytes = block_bytes, 8 * block_bytes, _CODED_BYTES[block_bytes]
        self._list_size = list_size
        self._choices = bytearray(self.bits * 32)
        self._metric, self._next = array("H", bytes(512)), array("H", bytes(512))
        self._costs = [0] * 8
        self._margins, self._watched = [0] * self.bits, bytearray(self.bits)
        self._received, self._most = bytearray(self.bits), bytearray(self.bits)

    def decode(self, coded, known):
        """The cheapest path and the runners-up that leave it once, cheapest first: blocks of 7 or 11 bytes.

        coded: 18 or 28 bytes in the code's order. known: as many entries as bits: 0, 1, or 2 where unknown.
        """
        start = _end_of_known_run(known)
        state = 0
        for step in range(start - 8, start):
            state = state << 1 | known[step]
        self._receive(coded)
        self._lap(known, start, state, False)
        path = bytearray(self.block_bytes)
        self._trace(start, state, -1, path)
        yield path
        # A second lap along the path found tells where leaving it costs least: cheaper than to note it everywhere.
        margins = self._margins
        self._watch(start, state, path)
        self._lap(known, start, state, True)
        for _ in range(self._list_size - 1):
            deviation = 0
            for turn in range(1, self.bits):
                if margins[turn] < margins[deviation]:
                    deviation = turn
            if margins[deviation] >= _FORBIDDEN // 2:
                return
            margins[deviation] = _FORBIDDEN
            self._trace(start, state, deviation, path)
            yield path

    def _receive(self, coded):
        """Received bits by step, in three bits of which `most` tells those that were sent."""
        drop = place = 0
        sent, all = 8 * self.coded_bytes, 3 * self.bits
        for step in range(self.bits):
            received = most = 0
            for k in (4, 2, 1):
                drop += sent
                if drop >= all:
                    drop -= all
                    most |= k
                    if coded[place >> 3] << (place & 7) & 128:
                        received |= k
                    place += 1
            self._received[step] = received
            self._most[step] = most

    def _step_costs(self, step):
        """Wrong bits of each of the eight triples at a step, in `_costs`; returns how many were sent."""
        received, most = self._received[step], self._most[step]
        for triple in range(8):
            wrong = (triple ^ received) & most
            self._costs[triple] = (wrong >> 2) + (wrong >> 1 & 1) + (wrong & 1)
        return (most >> 2) + (most >> 1 & 1) + (most & 1)

    def _watch(self, start, state, path):
        """The states along a path, turn by turn."""
        for turn in range(self.bits):
            step = (start + turn) % self.bits
            state = (state << 1 | path[step >> 3] >> (7 - (step & 7)) & 1) & 255
            self._watched[turn] = state

    def _lap(self, known, start, state, watching):
        """One lap over all states: from which of its two predecessors each came, and the margins of those watched."""
        zero = one = other = j = base = 0
        a = b = 0
        metric, after, costs = self._metric, self._next, self._costs
        outputs, choices = _OUTPUTS, self._choices
        for j in range(256):
            metric[j] = _FORBIDDEN
        metric[state] = 0
        for turn in range(self.bits):
            step = (start + turn) % self.bits
            most = self._step_costs(step)
            bit = known[step]
            base = turn * 32
            for j in range(128):
                # States j and j + 128 lead to 2j and 2j + 1; both ends of every generator are 1, so each
                # crossing branch contradicts exactly what the other does not.
                zero = costs[outputs[j]]
                other = most - zero
                a = metric[j]
                b = metric[j + 128]
                one = 0
                if bit != 1:
                    if b + other < a + zero:
                        after[j + j] = b + other
                        one = 1
                    else:
                        after[j + j] = a + zero
                else:
                    after[j + j] = _FORBIDDEN
                if bit:
                    if b + zero < a + other:
                        after[j + j + 1] = b + zero
                        one += 2
                    else:
                        after[j + j + 1] = a + other
                else:
                    after[j + j + 1] = _FORBIDDEN
                if j & 3:
                    one = choices[base + (j >> 2)] << 2 | one
                choices[base + (j >> 2)] = one & 255
            if watching:
                state = self._watched[turn]
                j = state >> 1
                zero = costs[outputs[j]]
                other = most - zero
                if state & 1:
                    zero, other = other, zero
                self._margins[turn] = abs(metric[j + 128] + other - metric[j] - zero)
            metric, after = after, metric

    def _trace(self, start, state, deviation, path):
        """Walk back from `state`, leaving the survivor at one turn; the input bits into `path`."""
        for index in range(self.block_bytes):
            path[index] = 0
        choices = self._choices
        for turn in range(self.bits - 1, -1, -1):
            step = (start + turn) % self.bits
            if state & 1:
                path[step >> 3] |= 128 >> (step & 7)
            # Two bits for each pair of states, those of four pairs in a byte, the first in its highest bits.
            upper = choices[turn * 32 + (state >> 3)] >> (6 - (state & 6) + (state & 1)) & 1
            if turn == deviation:
                upper ^= 1
            state = state >> 1 | upper << 7


def _end_of_known_run(known):
    """Where the first run of eight known bits ends."""
    run = 0
    for place, bit in enumerate(known):
        run = run + 1 if bit < 2 else 0
        if run == 8:
            return place + 1
    raise ValueError("eight bits in a row must be known")


class ReplyBits:
    """Replies of one mode as they arrive, undone to what may have been sent."""

    def __init__(self, decoder):
        self._decoder = decoder
        self._coded = bytearray(decoder.coded_bytes)
        self._known = bytearray(b"\x02" * decoder.bits)

    def candidates(self, data, mode, sequence, sequence_bits):
        """Blocks with this mode and sequence, the likeliest first; none for data of another length."""
        coded, known, bits = self._coded, self._known, 8 * self._decoder.coded_bytes
        if len(data) != len(coded):
            return ()
        place, step = 0, _STRIDES[len(coded)]
        for index in range(len(coded)):
            coded[index] = 0
        for index in range(bits):
            if data[index >> 3] << (index & 7) & 128:
                coded[place >> 3] |= 128 >> (place & 7)
            place = (place + step) % bits
        known[0], known[1] = mode >> 1, mode & 1
        for bit in range(sequence_bits):
            known[4 + bit] = sequence >> (sequence_bits - 1 - bit) & 1
        return self._decoder.decode(coded, known)

    def errors(self, block):
        """Bits of what arrived last that are wrong if this block was sent."""
        errors = 0
        for sent, arrived in zip(encode_block(block), self._coded):
            wrong = sent ^ arrived
            while wrong:
                wrong &= wrong - 1
                errors += 1
        return errors
