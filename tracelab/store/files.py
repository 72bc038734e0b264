"""Durable files under one folder or fsspec URL: whole, or not there.

On a local disk a write is a temporary file, fsync, rename, fsync of the folder; on an object
store a put is atomic by itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from tracelab.core.errors import ConfigError, one_line


class Store:
    """Named blobs under a root."""

    def __init__(self, root: str) -> None:
        """Open a root.

        Args:
            root: A folder, or any fsspec URL (`s3://bucket/runs`, `memory://runs`).

        Raises:
            ConfigError: There is no such kind of storage, or its package is not installed.
        """
        try:
            fs, path = fsspec.core.url_to_fs(root)
        except (ImportError, ValueError) as e:
            raise ConfigError(f"{root}: {one_line(e)}") from None
        self._fs: Any = fs
        self.root = str(path).rstrip("/")
        self.is_local = isinstance(fs, LocalFileSystem)

    def path(self, name: str) -> str:
        """Where a blob is."""
        return f"{self.root}/{name}"

    def write(self, name: str, data: bytes | Iterable[bytes]) -> None:
        """Write a blob so that a crash leaves the old one or the new one.

        Args:
            name: Of the blob.
            data: It, or its parts in order; on a local disk they are never held together.
        """
        target = self.path(name)
        self._fs.makedirs(str(PurePosixPath(target).parent), exist_ok=True)
        parts = [data] if isinstance(data, bytes) else data
        if not self.is_local:
            self._fs.pipe_file(target, b"".join(parts))
            return
        temporary = f"{target}.{os.getpid()}.tmp"
        try:
            with open(temporary, "wb") as f:
                for part in parts:
                    f.write(part)
                f.flush()
                os.fsync(f.fileno())
            os.replace(temporary, target)
        except BaseException:
            # A full disk must not also be left with half a file on it.
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise
        folder = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def read(self, name: str) -> bytes | None:
        """A blob's bytes, or None if it is not there."""
        try:
            return bytes(self._fs.cat_file(self.path(name)))
        except FileNotFoundError:
            return None

    def lines(self, name: str) -> Iterator[bytes]:
        """A blob's lines, one at a time; none if it is not there."""
        try:
            with self._fs.open(self.path(name), "rb") as f:
                yield from f
        except FileNotFoundError:
            return

    def exists(self, name: str) -> bool:
        """Whether a blob is there."""
        return bool(self._fs.exists(self.path(name)))

    def list(self, folder: str, suffix: str) -> list[str]:
        """Names of the blobs of a folder, sorted."""
        try:
            found = self._fs.ls(self.path(folder), detail=False)
        except FileNotFoundError:
            return []
        names = (str(p).rsplit("/", 1)[-1] for p in found)
        return sorted(f"{folder}/{n}" for n in names if n.endswith(suffix))

    def rename(self, name: str, new: str) -> None:
        """Move a blob."""
        self._fs.mv(self.path(name), self.path(new))

    def sweep(self) -> None:
        """Remove what writes that were cut short have left; for whoever writes here alone."""
        if not self.is_local:
            return
        for left in Path(self.root).rglob("*.tmp"):
            with suppress(OSError):
                left.unlink()
