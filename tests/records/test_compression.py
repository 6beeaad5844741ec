"""Codecs: whole round trips, bombs stopped while they run, and one typed error for everything else."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib

import cramjam
import lz4.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odradek.records.compression import (
    CODEC_NAMES,
    LEVELS,
    Codec,
    CompressionError,
    DecompressedTooLarge,
    compress,
    decompress,
)

LIMIT = 10_000_000
COMPRESSING = [codec for codec in Codec if codec is not Codec.NONE]


@settings(deadline=None)
@given(st.binary(max_size=5000), st.integers(1, 60), st.sampled_from(list(Codec)))
def test_round_trips(piece: bytes, repeat: int, codec: Codec) -> None:
    data = piece * repeat
    assert decompress(codec, compress(codec, data), LIMIT) == data
    assert decompress(codec, memoryview(compress(codec, memoryview(data))), len(data)) == data


@pytest.mark.parametrize("codec", list(LEVELS))
def test_every_kind_of_level_round_trips(codec: Codec) -> None:
    least, most, default = LEVELS[codec]
    data = b"".join(b"line %d of many\n" % i for i in range(5000))
    for level in {least, -5 if least < 0 else least, default, most - 1, most}:
        assert decompress(codec, compress(codec, data, level), LIMIT) == data
    assert compress(codec, data, default) == compress(codec, data)
    assert len(compress(codec, data, most)) < len(compress(codec, data, least))


@pytest.mark.parametrize("codec", list(Codec))
def test_the_bound_is_exact(codec: Codec) -> None:
    data = bytes(range(256)) * 1000
    stream = compress(codec, data)
    assert decompress(codec, stream, len(data)) == data
    with pytest.raises(DecompressedTooLarge):
        decompress(codec, stream, len(data) - 1)
    with pytest.raises(DecompressedTooLarge):
        decompress(codec, stream, 0)


def _bombs() -> list[tuple[str, Codec, bytes]]:
    size = 400_000_000
    zeros = bytes(1_000_000)
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    gz = b"".join(deflate.compress(zeros) for _ in range(size // len(zeros))) + deflate.flush()
    block = bytes(cramjam.snappy.compress_raw(bytes(2_000_000)))
    xerial = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1) + (struct.pack(">i", len(block)) + block) * 200
    frame = lz4.frame.LZ4FrameCompressor(block_linked=False, block_size=lz4.frame.BLOCKSIZE_MAX4MB)
    lz = frame.begin() + b"".join(frame.compress(zeros) for _ in range(size // len(zeros))) + frame.flush()
    # zstd frames of run-length blocks: 4 bytes for 128 KB. Frame header: magic, descriptor 0 (no size), window 1 MB.
    runs = b"\x28\xb5\x2f\xfd\x00\x50" + struct.pack("<I", (131_071 << 3) | 2)[:3] + b"\0"
    runs += (struct.pack("<I", (131_071 << 3) | 2)[:3] + b"\0") * 3000
    runs += struct.pack("<I", (131_071 << 3) | 3)[:3] + b"\0"
    one_shot = bytes(cramjam.zstd.compress(bytes(size // 4)))  # announces its size
    return [
        ("gzip", Codec.GZIP, gz),
        ("snappy", Codec.SNAPPY, xerial),
        ("lz4", Codec.LZ4, lz),
        ("zstd without a size", Codec.ZSTD, runs),
        ("zstd with its size", Codec.ZSTD, one_shot),
    ]


def test_bombs_are_stopped_while_they_run() -> None:
    for name, codec, bomb in _bombs():
        tracemalloc.start()
        try:
            with pytest.raises(DecompressedTooLarge):
                decompress(codec, bomb, 3_000_000)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 16_000_000, name


def test_a_zstd_stream_that_announces_no_size_is_read() -> None:
    data = bytes(range(256)) * 4000
    encoder = cramjam.zstd.Compressor()
    encoder.compress(data)
    stream = bytes(encoder.finish())
    assert decompress(Codec.ZSTD, stream, LIMIT) == data


def test_a_zstd_frame_that_announces_too_much_for_its_bytes_is_an_error_without_the_memory() -> None:
    lie = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 900_000_000) + b"\x01\x00\x00"
    tracemalloc.start()
    try:
        with pytest.raises(CompressionError):
            decompress(Codec.ZSTD, lie, 1_000_000_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000


def test_snappy_is_read_raw_too() -> None:
    data = b"hello, snappy " * 5000
    assert decompress(Codec.SNAPPY, bytes(cramjam.snappy.compress_raw(data)), LIMIT) == data
    assert compress(Codec.SNAPPY, data)[:16] == b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"


def test_a_snappy_block_that_claims_more_than_snappy_can_say_gets_no_memory() -> None:
    with pytest.raises(CompressionError, match="cannot hold"):
        decompress(Codec.SNAPPY, b"\xff\xff\xff\x07abc", LIMIT * 10)


def test_gzip_members_follow_each_other_up_to_a_bound() -> None:
    assert decompress(Codec.GZIP, gzip.compress(b"one") + gzip.compress(b"two"), LIMIT) == b"onetwo"
    with pytest.raises(CompressionError, match="members"):
        decompress(Codec.GZIP, gzip.compress(b"") * 1000, LIMIT)


def test_lz4_frames_have_independent_blocks_and_no_size() -> None:
    flags = compress(Codec.LZ4, bytes(1000))[4]
    assert flags >> 5 & 1 == 1, "block independence: Java refuses the rest"
    assert flags >> 3 & 1 == 0
    linked = lz4.frame.compress(b"x" * 200_000, block_linked=True)
    assert decompress(Codec.LZ4, linked, LIMIT) == b"x" * 200_000


@pytest.mark.parametrize("codec", COMPRESSING)
def test_streams_cut_short_or_followed_by_bytes_are_errors(codec: Codec) -> None:
    stream = compress(codec, b"some bytes " * 10_000)
    for end in (0, 1, 3, 5, 8, 14, 15, 17, len(stream) // 2, len(stream) - 1):
        with pytest.raises(CompressionError):
            decompress(codec, stream[:end], LIMIT)
    with pytest.raises(CompressionError):
        decompress(codec, stream + b"\x01\x02\x03\x04\x05", LIMIT)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(COMPRESSING), st.binary(max_size=300))
def test_garbage_raises_one_error(codec: Codec, garbage: bytes) -> None:
    try:
        out = decompress(codec, garbage, 100_000)
    except CompressionError:
        return
    assert len(out) <= 100_000


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(COMPRESSING), st.binary(max_size=3000), st.data())
def test_damaged_streams_raise_one_error(codec: Codec, data: bytes, draw: st.DataObject) -> None:
    stream = bytearray(compress(codec, data))
    for _ in range(draw.draw(st.integers(1, 3))):
        stream[draw.draw(st.integers(0, len(stream) - 1))] = draw.draw(st.integers(0, 255))
    try:
        out = decompress(codec, bytes(stream), 100_000)
    except CompressionError:
        return
    assert len(out) <= 100_000


def test_codecs_that_do_not_exist() -> None:
    with pytest.raises(CompressionError):
        decompress(5, b"x", LIMIT)
    with pytest.raises(ValueError):
        compress(5, b"x")
    assert set(CODEC_NAMES.values()) == set(Codec)
