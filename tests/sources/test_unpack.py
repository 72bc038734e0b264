"""Compressed files: bounded, checked, and one name one member."""

from __future__ import annotations

import gzip
import io
import random
import warnings
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from tracelab.core.seam import Reject
from tracelab.sources import read
from tracelab.sources.files.unpack import FREE, Archive, UnpackError, open_bytes, read_whole

SAMPLE = b'{"id": 1, "messages": [{"role": "user", "content": "q"}]}'
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def zipped(path: Path, *members: tuple[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", how) as z:
        warnings.simplefilter("ignore")  # of names that come twice
        for name, data in members:
            z.writestr(name, data)
    return path


def text(size: int) -> bytes:
    return random.Random(0).randbytes(size // 2).hex().encode()


@pytest.mark.parametrize("how", METHODS)
def test_every_method_gives_what_was_packed(tmp_path: Path, how: int) -> None:
    data = text(3_000_000)
    with closing(Archive(zipped(tmp_path / "a.zip", ("x", b""), ("y", data), how=how))) as a:
        assert (a.read("y", 1 << 30), a.read("x", 10)) == (data, b"")
        with pytest.raises(UnpackError, match="larger than"):
            a.read("y", 1 << 20)


@pytest.mark.parametrize("how", METHODS)
@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_member_is_said_whatever_the_damage(tmp_path: Path, how: int, seed: int) -> None:
    """Of any method, at any bit: an error of ours, or what was packed; never something else."""
    rng, data = random.Random(seed), text(20_000)
    path = zipped(tmp_path / "a.zip", ("y", data), how=how)
    raw = bytearray(path.read_bytes())
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    path.write_bytes(raw)
    try:
        with closing(Archive(path)) as a:
            for name in a.names:
                assert a.read(name, 1 << 30) == data
    except UnpackError:
        pass


@pytest.mark.parametrize("how", METHODS[1:])
def test_a_bomb_is_stopped_on_the_way(tmp_path: Path, how: int) -> None:
    path = zipped(tmp_path / "a.zip", ("y", b"\0" * (FREE + (8 << 20))), how=how)
    with closing(Archive(path)) as a, pytest.raises(UnpackError, match="unpacks to more than"):
        a.read("y", 1 << 40)


def test_members_share_one_allowance(tmp_path: Path) -> None:
    """However they overlap: a hundred members of one megabyte are a bomb as one of a hundred."""
    path = zipped(tmp_path / "a.zip", *((f"{i}", b"\0" * (1 << 20)) for i in range(40)))
    with closing(Archive(path)) as a, pytest.raises(UnpackError, match="unpacks to more than"):
        for name in a.names:
            a.read(name, 1 << 40)


def test_of_two_members_of_one_name_none_is_read(tmp_path: Path) -> None:
    other = SAMPLE.replace(b'"q"', b'"other"')
    good = SAMPLE.replace(b'"q"', b'"good"')
    path = zipped(
        tmp_path / "log.eval", ("header.json", b'{"eval": {}, "plan": {}}'),
        ("samples/a.json", SAMPLE), ("samples/a.json", other), ("samples/b.json", good),
    )  # fmt: skip
    reject, trace = read(path)
    assert isinstance(reject, Reject) and "samples/a.json: The sample has the name of another" in (
        reject.reason
    )
    assert not isinstance(trace, Reject)


def test_gzip(tmp_path: Path) -> None:
    data = text(2_000_000)
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(data))
    assert read_whole(path, 1 << 30) == data
    with pytest.raises(UnpackError, match="larger than"):
        read_whole(path, 1 << 20)
    path.write_bytes(gzip.compress(data)[:-9])
    with pytest.raises(UnpackError, match="cannot be read"):
        read_whole(path, 1 << 30)
    path.write_bytes(gzip.compress(b"\0" * (FREE + (8 << 20))))
    with pytest.raises(UnpackError, match="unpacks to more than"), open_bytes(path) as file:
        while file.read1(io.DEFAULT_BUFFER_SIZE):
            pass
