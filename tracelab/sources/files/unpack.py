"""The one reader of compressed files and of members of archives: bounded in size, ratio and time.

A file of a few kilobytes can unpack to gigabytes. So whatever is compressed may unpack to `FREE`
bytes, and beyond that to `RATIO` times what it takes packed; an archive's members share one such
allowance, however they overlap. Nothing is unpacked in larger pieces than `_PIECE`, by any method.
What does not hold to it raises `UnpackError`, which says the bound.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any

from tracelab.core.errors import ImportFormatError

RATIO = 60
FREE = 32 << 20
"""Bytes that anything may unpack to, whatever its size."""
MAX_MEMBERS = 100_000
_SECONDS, _SECONDS_A_MIB = 5.0, 1.0  # of CPU spent in unpacking; an honest stream takes a tenth
_PIECE = 1 << 18
_GZIP = b"\x1f\x8b"
_ZSTD, _LOCAL_HEADER = 93, 30
BROKEN = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile)
"""What Python raises for a stream that is damaged or cut off."""


class UnpackError(Exception):
    """It is damaged, of a method that is not known, or beyond a bound; the message says which."""


@dataclass(slots=True)
class Allowance:
    """How much may still come out of something packed.

    Attributes:
        packed: Its size, bytes.
    """

    packed: int
    _taken: int = 0
    _spent: float = 0.0

    def take(self, more: Callable[[], bytes]) -> bytes:
        """The next piece, counted.

        Raises:
            UnpackError: What came out is too much, or took too long.
        """
        began = time.thread_time()
        part = more()
        self._spent += time.thread_time() - began
        self._taken += len(part)
        if self._taken > max(FREE, RATIO * self.packed):
            raise UnpackError(
                f"unpacks to more than {FREE >> 20} MiB and {RATIO} times its packed size"
            )
        most = _SECONDS + _SECONDS_A_MIB * (self.packed >> 20)
        if self._spent > most:
            raise UnpackError(f"takes more than {most:.0f} s to unpack")
        return part


class _Counted(RawIOBase):
    """A gzip stream whose bytes are counted."""

    def __init__(self, path: Path) -> None:
        self._of = gzip.open(path, "rb")
        self._left = Allowance(path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._left.take(lambda: self._of.read1(min(len(buffer), _PIECE)))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._of.close()
        super().close()


def open_bytes(path: Path) -> BufferedReader:
    """Open a file, unpacking gzip by content rather than by name.

    Reading raises `UnpackError` or one of `BROKEN` where the stream is not what it should be.

    Raises:
        ImportFormatError: It cannot be opened.
    """
    try:
        raw = path.open("rb")
    except OSError as e:
        raise ImportFormatError(f"{path} cannot be read ({e.strerror}).") from None
    if raw.read(2) == _GZIP:
        raw.close()
        return BufferedReader(_Counted(path), _PIECE)
    raw.seek(0)
    return raw


def read_whole(path: Path, most: int) -> bytes:
    """All of a file, unpacked.

    Raises:
        ImportFormatError: It cannot be opened.
        UnpackError: It is longer than `most`, or damaged.
    """
    parts, size = list[bytes](), 0
    try:
        with open_bytes(path) as file:
            while part := file.read1(_PIECE):
                size += len(part)
                if size > most:
                    raise UnpackError(f"is larger than {most >> 20} MiB")
                parts.append(part)
    except (*BROKEN, OSError) as e:
        raise UnpackError(f"cannot be read ({_said(e)})") from None
    return b"".join(parts)


class Archive:
    """The members of a ZIP file, one name one member."""

    def __init__(self, path: Path) -> None:
        """Read the directory.

        Raises:
            UnpackError: It is damaged, or holds too many members.
        """
        try:
            self._zip = zipfile.ZipFile(path)
        except (*BROKEN, OSError, ValueError, NotImplementedError) as e:
            raise UnpackError(f"is damaged ({_said(e)})") from None
        found = self._zip.infolist()
        if len(found) > MAX_MEMBERS:
            self._zip.close()
            raise UnpackError(f"holds more than {MAX_MEMBERS} members")
        self._left = Allowance(path.stat().st_size)
        self._members: dict[str, zipfile.ZipInfo] = {}
        self.twice: list[str] = []
        """Names that several members have: which one was meant is not known, so none is read."""
        for entry in found:
            if entry.filename in self._members and entry.filename not in self.twice:
                self.twice.append(entry.filename)
            self._members[entry.filename] = entry

    @property
    def names(self) -> list[str]:
        """Names of the members, in order."""
        return list(self._members)

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def read(self, name: str, most: int) -> bytes:
        """One member, unpacked and checked against its CRC.

        Raises:
            UnpackError: There are two of it, it is damaged, or beyond a bound.
        """
        if name in self.twice:
            raise UnpackError("has the name of another member too")
        entry = self._members[name]
        parts, size, crc = list[bytes](), 0, 0
        try:
            pieces = (p for p in _pieces(self._zip, entry) if p)
            while part := self._left.take(lambda: next(pieces, b"")):
                size += len(part)
                if size > most:
                    raise UnpackError(f"is larger than {most >> 20} MiB")
                crc = zlib.crc32(part, crc)
                parts.append(part)
        except (*BROKEN, OSError, ValueError) as e:
            raise UnpackError(f"cannot be unpacked ({_said(e)})") from None
        if size != entry.file_size or crc != entry.CRC:
            raise UnpackError("cannot be unpacked (its checksum or its size is another)")
        return b"".join(parts)


def _pieces(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """A member's content, in pieces of bounded size; `zipfile` bounds only those of deflate."""
    if entry.flag_bits & 0x1:
        raise UnpackError("is encrypted")
    file = archive.fp
    assert file is not None
    file.seek(entry.header_offset)
    head = file.read(_LOCAL_HEADER)
    if head[:4] != b"PK\x03\x04":
        raise UnpackError("cannot be unpacked (there is no member at its place)")
    skip = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    start, end = file.tell() + skip, file.tell() + skip + entry.compress_size
    if entry.compress_type == zipfile.ZIP_STORED:
        yield from _packed(file, start, end)
    elif entry.compress_type == _ZSTD:
        yield from _zstd(file, start, entry.compress_size)
    elif entry.compress_type == zipfile.ZIP_DEFLATED:
        yield from _deflated(_packed(file, start, end))
    elif entry.compress_type == zipfile.ZIP_BZIP2:
        yield from _through(bz2.BZ2Decompressor(), _packed(file, start, end))
    elif entry.compress_type == zipfile.ZIP_LZMA:
        file.seek(start)
        size = int.from_bytes(file.read(4)[2:], "little")
        known = lzma._decode_filter_properties  # type: ignore[attr-defined]  # as zipfile does
        filters = [known(lzma.FILTER_LZMA1, file.read(size))]
        decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
        yield from _through(decoder, _packed(file, start + 4 + size, end))
    else:
        raise UnpackError(f"is packed by a method that is not known ({entry.compress_type})")


def _packed(file: Any, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        file.seek(start)  # others may read in between
        if not (part := file.read(min(_PIECE, end - start))):
            raise EOFError("it is cut off")
        start += len(part)
        yield part


def _deflated(packed: Iterator[bytes]) -> Iterator[bytes]:
    decoder = zlib.decompressobj(-15)
    for part in packed:
        while part and not decoder.eof:
            yield decoder.decompress(part, _PIECE)
            part = decoder.unconsumed_tail
    while not decoder.eof:
        if not (rest := decoder.decompress(decoder.unconsumed_tail, _PIECE)):
            raise EOFError("it is cut off")
        yield rest


def _through(decoder: Any, packed: Iterator[bytes]) -> Iterator[bytes]:
    """Of bz2 and LZMA: `max_length` bounds what one call makes."""
    for part in packed:
        while not decoder.eof:
            made = decoder.decompress(part, _PIECE)
            yield made
            part = b""
            if decoder.needs_input or not made:
                break


def _zstd(file: Any, start: int, size: int) -> Iterator[bytes]:
    """Zstandard, which Python 3.11 does not have, through pyarrow."""
    import pyarrow as pa

    file.seek(start)
    with pa.CompressedInputStream(pa.BufferReader(file.read(size)), "zstd") as stream:
        read: Callable[[int], bytes] = stream.read
        while part := read(_PIECE):
            yield bytes(part)


def _said(error: BaseException) -> str:
    why = error.strerror if isinstance(error, OSError) else None
    return " ".join(str(why or error).split())[:100] or type(error).__name__
