"""Every way tracelab fails on purpose.

    TracelabError
    ├── ConfigError          a config file, option or environment variable is wrong      exit 2
    ├── ImportFormatError    an input file cannot be read at all                         exit 2
    ├── PlanError            a study cannot be planned for this trace
    ├── EngineError          the engine cannot serve
    │   ├── ModelLoadError   the model is missing or is not a causal language model      exit 2
    │   └── EngineDeadError  the engine process is gone; its items are retried
    ├── DamagedError         a file of a run's journal is not what was written
    ├── GradingError         a grader cannot be built (a failed grade is an outcome, not an error)
    └── WarehouseError       the database cannot be used                                 exit 1
        ├── LockedError      another process holds it                                    exit 4
        ├── SchemaError      it was written by a newer tracelab                          exit 2
        └── QueryError       SQL, or the name or parameters of a query, are wrong        exit 2

One bad line or one failed rollout is data (a `rejects` row, an observation with `error`), never
one of these. These are raised only when the command as a whole cannot go on; the message is one
sentence for a person and names the file, line or field. The CLI prints it and exits with
`exit_code`.
"""

from __future__ import annotations

from tracelab.core.secrets import redacted


class TracelabError(Exception):
    """Base of everything tracelab raises on purpose; secrets in its message are hidden."""

    exit_code: int = 1

    def __init__(self, *args: object) -> None:
        """Take the message."""
        super().__init__(*(redacted(a) if isinstance(a, str) else a for a in args))


class ConfigError(TracelabError):
    """A configuration value is missing, unknown or out of range."""

    exit_code = 2


class ImportFormatError(TracelabError):
    """An input file or folder cannot be read at all."""

    exit_code = 2


class PlanError(TracelabError):
    """A study cannot be planned for a trace."""


class DamagedError(TracelabError):
    """A file of a run's journal is not what was written."""


class EngineError(TracelabError):
    """The engine cannot serve."""


class ModelLoadError(EngineError):
    """The model directory is missing, unreadable or not a causal language model."""

    exit_code = 2


class EngineDeadError(EngineError):
    """The engine process died; the caller may rebuild it and retry the items."""


class GradingError(TracelabError):
    """A grader cannot be built from its configuration."""

    exit_code = 2


class WarehouseError(TracelabError):
    """The database cannot be used."""


class LockedError(WarehouseError):
    """Another process holds the database."""

    exit_code = 4


class QueryError(WarehouseError):
    """What was asked of the database is not a query it can answer."""

    exit_code = 2


class SchemaError(WarehouseError):
    """The database was written by a newer tracelab."""

    exit_code = 2


def one_line(error: BaseException, limit: int = 300) -> str:
    """An exception's message on one line, shortened; its type's name where it has no message."""
    return " ".join(str(error).split())[:limit] or type(error).__name__
