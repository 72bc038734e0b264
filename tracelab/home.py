"""The folder where a user's results live: `tracelab.duckdb`, `runs/<run_id>/`, `reports/`."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tracelab.errors import ConfigError

ENVIRONMENT = "TRACELAB_HOME"
DEFAULT = "tracelab-home"


@dataclass(frozen=True, slots=True)
class Home:
    """A home folder; nothing is created until something is written."""

    path: Path

    @classmethod
    def at(cls, path: str | Path | None = None) -> Home:
        """The given folder, else `TRACELAB_HOME`, else `./tracelab-home`."""
        chosen = path or os.environ.get(ENVIRONMENT) or DEFAULT
        return cls(Path(chosen).expanduser().absolute())

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
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path) as f:
                f.write(b"x")
                f.flush()
        except OSError as e:
            raise ConfigError(
                f"home {self.path} cannot be written ({e.strerror}); choose another folder with "
                f"--home or {ENVIRONMENT}"
            ) from None
