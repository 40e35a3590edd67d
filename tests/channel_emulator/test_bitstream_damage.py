"""Damaged requests: only the bitstream changes, and what was cut off is marked as erased."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from channel_emulator.bitstream_damage import damaged_request
from weaklink.v1 import edge_pb2


def request_of(bitstream, erased=()):
    ranges = [edge_pb2.BitRange(first_bit=first, bit_count=count) for first, count in erased]
    return edge_pb2.InferRequest(
        bitstream=bitstream, ber_estimate=0.02, erased=ranges, codec="cifar10", level=2, device="cam", sequence=9
    )


def ranges_of(request):
    return [(one.first_bit, one.bit_count) for one in request.erased]


def test_flips_change_the_bitstream_alone():
    request = request_of(b"\x00\xff", [(3, 4)])
    damaged = edge_pb2.InferRequest.FromString(damaged_request(request, b"\x80\xfe"))
    assert damaged.bitstream == b"\x80\xfe" and request.bitstream == b"\x00\xff"
    damaged.bitstream = request.bitstream
    assert damaged == request


def test_a_cut_bitstream_keeps_its_length_and_says_what_is_missing():
    request = request_of(b"abcdef", [(0, 4), (12, 8), (30, 2)])
    damaged = edge_pb2.InferRequest.FromString(damaged_request(request, b"ab"))
    assert damaged.bitstream == b"ab\0\0\0\0"
    # The second range is cut where the missing part begins, the third lies within it.
    assert ranges_of(damaged) == [(0, 4), (12, 4), (16, 32)]


@given(st.binary(min_size=1, max_size=40), st.data())
def test_ranges_after_a_cut_lie_inside_and_do_not_overlap(bitstream, data):
    bits = 8 * len(bitstream)
    first = data.draw(st.integers(0, bits - 1))
    count = data.draw(st.integers(1, bits - first))
    kept = data.draw(st.integers(0, len(bitstream)))
    request = request_of(bitstream, [(first, count)])
    damaged = edge_pb2.InferRequest.FromString(damaged_request(request, bitstream[:kept]))
    missing = [False] * bits
    for start, length in ranges_of(damaged):
        for bit in range(start, start + length):
            assert not missing[bit]
            missing[bit] = True
    assert missing == [first <= bit < first + count or bit >= 8 * kept for bit in range(bits)]
    assert damaged.bitstream == bitstream[:kept] + bytes(len(bitstream) - kept)
