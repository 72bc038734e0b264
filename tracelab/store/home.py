"""The folder where a user's results live: `tracelab.duckdb`, `runs/<run_id>/`, `reports/`."""

from __future__ import annotations

import errno
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tracelab.core.errors import ConfigError, TracelabError

ENVIRONMENT = "TRACELAB_HOME"
DEFAULT = "tracelab-home"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the system says when there is no room."""


@dataclass(frozen=True, slots=True)
class Home:
    """A home folder; nothing is created until something is written."""

    path: Path

    @classmethod
    def at(cls, path: str | Path | None = None) -> Home:
        """The given folder, else `TRACELAB_HOME`, else `./tracelab-home`.

        Raises:
            ConfigError: It starts with `~` and the name of an unknown user.
        """
        chosen = path or os.environ.get(ENVIRONMENT) or DEFAULT
        try:
            return cls(Path(chosen).expanduser().absolute())
        except RuntimeError as e:  # ~name of an unknown user
            raise ConfigError(f"home {str(chosen)!r}: {str(e)[:1].lower()}{str(e)[1:]}") from None

    @property
    def database(self) -> Path:
        """The DuckDB file."""
        return self.path / "tracelab.duckdb"

    @property
    def runs(self) -> Path:
        """Where journals live unless a config says otherwise."""
        return self.path / "runs"

    def require_writable(self) -> None:
        """Make sure results can be kept here, before any work is done.

        Raises:
            ConfigError: They cannot.
            TracelabError: The disk is full.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path) as f:
                f.write(b"x")
                f.flush()
        except OSError as e:
            if e.errno in FULL:
                raise TracelabError(
                    f"home {self.path}: the disk is full; free some space and run the same "
                    "command again"
                ) from None
            why = "it is a file" if self.path.is_file() else e.strerror
            raise ConfigError(
                f"home {self.path} cannot be written ({why}); choose another folder with "
                f"--home or {ENVIRONMENT}"
            ) from None
