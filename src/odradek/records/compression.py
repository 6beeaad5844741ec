"""The codecs of record batches: none, gzip, snappy, lz4 and zstd, in the forms that Kafka's Java clients use.

Role: compress and decompress bytes, without parsing records. Snappy is written in xerial's framing, as Java does, and
read in that framing or raw, as other clients send it. lz4 frames are written with independent blocks, because Java
refuses linked ones. zstd and gzip are plain streams.

Invariants: `decompress` never holds more than about `max_bytes` of output: the bound is checked while the codec runs,
so that a small input cannot demand much memory. It raises `CompressionError`, and nothing else, on anything that is not
one whole stream of the codec.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum

import cramjam
import lz4.frame

from odradek.records.batch import Buffer


class Codec(IntEnum):
    """The codecs, with their numbers in a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


CODEC_NAMES: dict[str, Codec] = {
    "none": Codec.NONE,
    "uncompressed": Codec.NONE,
    "gzip": Codec.GZIP,
    "snappy": Codec.SNAPPY,
    "lz4": Codec.LZ4,
    "zstd": Codec.ZSTD,
}
# Lowest, highest and default value of `compression.{gzip,lz4,zstd}.level` (KIP-390). gzip also takes -1, its default.
LEVELS: dict[Codec, tuple[int, int, int]] = {
    Codec.GZIP: (1, 9, -1),
    Codec.LZ4: (1, 17, 9),
    Codec.ZSTD: (-131_072, 22, 3),
}

_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER = _XERIAL_MAGIC + struct.pack(">ii", 1, 1)  # version, and the oldest version that can read it
_XERIAL_BLOCK_BYTES = 32_768  # xerial's default block
_LENGTH = struct.Struct(">i")
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_FIRST_GUESS_BYTES = 65_536
# The most members of one gzip stream: writers make one, and each member costs a copy of the bytes after it.
_GZIP_MEMBERS = 64


class CompressionError(ValueError):
    """Bytes are not a valid stream of their codec."""


class DecompressedTooLarge(CompressionError):
    """A stream holds more bytes than the caller allows."""


def _too_large(max_bytes: int) -> DecompressedTooLarge:
    return DecompressedTooLarge(f"the batch holds more than {max_bytes} bytes when decompressed")


def compress(codec: int, data: Buffer, level: int | None = None) -> bytes:
    """Compresses `data`. `level` is the codec's `compression.*.level`, None its default; codecs without levels ignore
    it. Raises `ValueError` for a codec that does not exist."""
    if codec == Codec.NONE:
        return bytes(data)
    if codec == Codec.GZIP:
        deflate = zlib.compressobj(-1 if level is None else level, zlib.DEFLATED, 31)
        return deflate.compress(data) + deflate.flush()
    if codec == Codec.SNAPPY:
        return _compress_snappy(data)
    if codec == Codec.LZ4:
        # Kafka's default level, 9, selects lz4's fast compressor, any other level the high-compression one. Java's
        # reader needs independent blocks, and no content size.
        fast = level is None or level == LEVELS[Codec.LZ4][2]
        out: bytes = lz4.frame.compress(
            data,
            compression_level=0 if fast else level,
            block_size=lz4.frame.BLOCKSIZE_MAX64KB,
            block_linked=False,
            store_size=False,
        )
        return out
    if codec == Codec.ZSTD:
        return bytes(cramjam.zstd.compress(data, LEVELS[Codec.ZSTD][2] if level is None else level))
    raise ValueError(f"compression codec {codec} does not exist")


def decompress(codec: int, data: Buffer, max_bytes: int) -> bytes:
    """Decompresses the one stream that fills `data`, to at most `max_bytes` bytes.

    Raises `DecompressedTooLarge` where it holds more, `CompressionError` where it is not one whole stream."""
    if codec == Codec.NONE:
        if len(data) > max_bytes:
            raise _too_large(max_bytes)
        return bytes(data)
    if not len(data):
        raise CompressionError("a compressed batch without any bytes")
    if codec == Codec.GZIP:
        return _decompress_gzip(data, max_bytes)
    if codec == Codec.SNAPPY:
        return _decompress_snappy(data, max_bytes)
    if codec == Codec.LZ4:
        return _decompress_lz4(data, max_bytes)
    if codec == Codec.ZSTD:
        return _decompress_zstd(data, max_bytes)
    raise CompressionError(f"compression codec {codec} does not exist")


def _decompress_gzip(data: Buffer, max_bytes: int) -> bytes:
    out: list[bytes] = []
    room = max_bytes
    rest: Buffer = data
    while len(rest):  # a gzip stream may have several members, as java.util.zip reads them
        if len(out) == _GZIP_MEMBERS:
            raise CompressionError(f"a gzip stream of more than {_GZIP_MEMBERS} members")
        inflate = zlib.decompressobj(31)
        try:
            piece = inflate.decompress(rest, room + 1)
        except zlib.error as error:
            raise CompressionError(f"not a gzip stream: {error}") from None
        if len(piece) > room:
            raise _too_large(max_bytes)
        if not inflate.eof:
            raise CompressionError("the gzip stream is cut short")
        out.append(piece)
        room -= len(piece)
        rest = inflate.unused_data
    return b"".join(out)


def _compress_snappy(data: Buffer) -> bytes:
    view = memoryview(data)
    out = [_XERIAL_HEADER]
    for start in range(0, len(view), _XERIAL_BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(view[start : start + _XERIAL_BLOCK_BYTES]))
        out.append(_LENGTH.pack(len(block)))
        out.append(block)
    return b"".join(out)


def _decompress_snappy(data: Buffer, max_bytes: int) -> bytes:
    view = memoryview(data)
    if view[: len(_XERIAL_MAGIC)] != _XERIAL_MAGIC:
        return _decompress_raw_snappy(view, max_bytes, max_bytes)
    out: list[bytes] = []
    room = max_bytes
    position = len(_XERIAL_HEADER)
    if len(view) < position:
        raise CompressionError("the snappy stream is cut short in its header")
    while position < len(view):
        if len(view) - position < _LENGTH.size:
            raise CompressionError("the snappy stream is cut short in a block's length")
        (length,) = _LENGTH.unpack_from(view, position)
        position += _LENGTH.size
        if not 0 < length <= len(view) - position:
            raise CompressionError(f"a snappy block of {length} bytes where {len(view) - position} are left")
        piece = _decompress_raw_snappy(view[position : position + length], room, max_bytes)
        out.append(piece)
        room -= len(piece)
        position += length
    return b"".join(out)


def _decompress_raw_snappy(block: memoryview, room: int, max_bytes: int) -> bytes:
    try:
        size = cramjam.snappy.decompress_raw_len(block)
        if size > room:
            raise _too_large(max_bytes)
        # Snappy encodes at most 64 bytes in 3 (a copy), so a larger announced size is false: do not allocate it.
        if size > 22 * len(block):
            raise CompressionError(f"{len(block)} bytes of snappy cannot hold {size}")
        out = bytearray(size)
        written = cramjam.snappy.decompress_raw_into(block, out)
    except cramjam.DecompressionError as error:
        raise CompressionError(f"not a snappy block: {error}") from None
    if written != size:
        raise CompressionError(f"a snappy block says {size} bytes and holds {written}")
    return bytes(out)


def _decompress_lz4(data: Buffer, max_bytes: int) -> bytes:
    frame = lz4.frame.LZ4FrameDecompressor()
    try:
        out: bytes = frame.decompress(data, max_length=max_bytes + 1)
    except RuntimeError as error:
        raise CompressionError(f"not an lz4 frame: {error}") from None
    if len(out) > max_bytes:
        raise _too_large(max_bytes)
    if not frame.eof:
        raise CompressionError("the lz4 frame is cut short")
    if frame.unused_data:
        raise CompressionError("bytes after the lz4 frame")
    return out


def _zstd_content_size(data: Buffer) -> int | None:
    """The content size that a zstd frame's header announces (RFC 8878, 3.1.1.1), None where it announces none."""
    head = bytes(memoryview(data)[:18])
    if head[:4] != _ZSTD_MAGIC or len(head) < 6:
        raise CompressionError("not a zstd frame")
    descriptor = head[4]
    single_segment = descriptor >> 5 & 1
    size_flag = descriptor >> 6
    if size_flag == 0 and not single_segment:
        return None
    width = (1, 2, 4, 8)[size_flag]
    start = 5 + (0 if single_segment else 1) + (0, 1, 2, 4)[descriptor & 3]
    if len(head) < start + width:
        raise CompressionError("the zstd frame is cut short in its header")
    size = int.from_bytes(head[start : start + width], "little")
    return size + 256 if size_flag == 1 else size


def _decompress_zstd(data: Buffer, max_bytes: int) -> bytes:
    # The codec writes into a buffer of fixed size and cannot exceed it. The buffer has the size that the frame
    # announces, else it grows in steps. An announced size may be false, so the first buffer is bounded by a guess.
    announced = _zstd_content_size(data)
    if announced is not None and announced > max_bytes:
        raise _too_large(max_bytes)
    guess = max(_FIRST_GUESS_BYTES, 8 * len(data))
    size = min(max_bytes, guess if announced is None else min(announced, 8 * guess))
    while True:
        out = bytearray(size)
        try:
            written = cramjam.zstd.decompress_into(data, out)
        except cramjam.DecompressionError as error:
            if "whole buffer" not in str(error):
                raise CompressionError(f"not a zstd stream: {error}") from None
            if size >= max_bytes:
                raise _too_large(max_bytes) from None
            size = min(max_bytes, max(_FIRST_GUESS_BYTES, 4 * size))
            continue
        return bytes(memoryview(out)[:written])
