"""The files inside an Inspect log: its header, and its samples one at a time."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tracelab.core.errors import ImportFormatError, one_line
from tracelab.core.outside import OutsideError, decode
from tracelab.sources.files.records import MAX_FILE_BYTES
from tracelab.sources.files.unpack import Archive, UnpackError, read_whole

HEADERS = ("_journal/start.json", "header.json")


def inspect_samples(path: Path, header: dict[str, Any]) -> Iterator[tuple[str, Any, str | None]]:
    """Yield (name, sample or its bytes, problem) one at a time; `header` is filled first.

    Raises:
        ImportFormatError: It is not a log, or a damaged one.
    """
    if not zipfile.is_zipfile(path):
        try:
            log = decode(read_whole(path, MAX_FILE_BYTES), repair=True)
        except UnpackError as e:
            raise ImportFormatError(f"{path} {e}.") from None
        except OutsideError as e:
            raise ImportFormatError(f"{path} is not an Inspect log: {e.reason}") from None
        if not isinstance(log, dict) or not isinstance(log.get("samples"), list):
            raise ImportFormatError(f"{path} is not an Inspect log: it has no `samples`.")
        header.update({k: v for k, v in log.items() if k != "samples"})
        for i, sample in enumerate(log["samples"]):
            yield f"samples[{i}]", sample, None
        return
    try:
        with closing(Archive(path)) as archive:
            for name in HEADERS:
                if name in archive.names:
                    found = decode(archive.read(name, MAX_FILE_BYTES), repair=True)
                    header.update(found if isinstance(found, dict) else {})
            for name in archive.names:
                if name.startswith("samples/") and name.endswith(".json"):
                    try:
                        yield name, archive.read(name, MAX_FILE_BYTES), None
                    except UnpackError as e:
                        yield name, b"", f"The sample {e}."
    except (UnpackError, OutsideError) as e:
        raise ImportFormatError(f"{path} is not a complete log ({one_line(e, 200)}).") from None
