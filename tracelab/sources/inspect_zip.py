"""The files inside an Inspect log: its header, and its samples one at a time."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracelab.core.errors import ImportFormatError, one_line
from tracelab.sources.agent_json import BadRecordError, parse_json
from tracelab.sources.agent_log import MAX_FILE_BYTES
from tracelab.sources.lines import open_bytes

_ZSTD = 93


def inspect_samples(path: Path, header: dict[str, Any]) -> Iterator[tuple[str, Any, str | None]]:
    """Yield (name, sample or its bytes, problem) one at a time; `header` is filled first.

    Raises:
        ImportFormatError: It is not a log, or a damaged one.
    """
    if not zipfile.is_zipfile(path):
        with open_bytes(path) as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ImportFormatError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB.")
        try:
            log = parse_json(data)
        except BadRecordError as e:
            raise ImportFormatError(f"{path} is not an Inspect log: {e.reason}") from None
        if not isinstance(log, dict) or not isinstance(log.get("samples"), list):
            raise ImportFormatError(f"{path} is not an Inspect log: it has no `samples`.")
        header.update({k: v for k, v in log.items() if k != "samples"})
        for i, sample in enumerate(log["samples"]):
            yield f"samples[{i}]", sample, None
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {e.filename: e for e in archive.infolist()}
            for name in ("_journal/start.json", "header.json"):
                if name in entries:
                    found = parse_json(_read(archive, entries[name]))
                    header.update(found if isinstance(found, dict) else {})
            for name, entry in entries.items():
                if name.startswith("samples/") and name.endswith(".json"):
                    try:
                        yield name, _read(archive, entry), None
                    except (BadRecordError, zipfile.BadZipFile, OSError, EOFError) as e:
                        yield name, b"", f"The sample cannot be unpacked ({one_line(e, 100)})."
    except (zipfile.BadZipFile, BadRecordError, OSError, EOFError) as e:
        raise ImportFormatError(f"{path} is not a complete log ({one_line(e, 100)}).") from None


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Unpack one entry; zstandard, which Python 3.11's zipfile cannot, through pyarrow."""
    if entry.compress_type != _ZSTD:
        try:
            with archive.open(entry) as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except (NotImplementedError, RuntimeError) as e:
            raise BadRecordError(one_line(e)) from None
    else:
        import pyarrow as pa

        raw = archive.fp
        assert raw is not None
        raw.seek(entry.header_offset + 26)
        lengths = raw.read(4)
        raw.seek(int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little"), 1)
        packed = pa.BufferReader(raw.read(entry.compress_size))
        with pa.CompressedInputStream(packed, "zstd") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise BadRecordError(f"It is larger than {MAX_FILE_BYTES >> 20} MiB.")
    return bytes(data)
