"""Lists of what can be plugged in: studies, methods, engines, sources, environments, outcomes.

A registry finds its members by itself: every module of its folder is imported when somebody first
asks, and registers what it has with a decorator; installed packages add theirs through entry points
of the registry's group. So adding one is adding one file. Modules of such folders must import
cheaply: what is heavy is imported where it is used.

An installed package whose entry point cannot be imported takes nobody else down: it is left out,
`broken` says why, and so does the error of whoever asks for a name that is not there. Pure.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from tracelab.core.errors import ConfigError, one_line

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Members by name, in the order of their names unless they were given an order."""

    def __init__(self, what: str, *, package: str | None, group: str) -> None:
        """Describe a registry; nothing is imported yet.

        Args:
            what: What a member is called in messages: `engine`.
            package: Folder whose modules register members; None for none.
            group: Entry-point group in which other packages offer members: each entry point is
                a module, or an object in one, whose import registers it.
        """
        self.what = what
        self._package = package
        self._group = group
        self._members: dict[str, T] = {}
        self._order: dict[str, int] = {}
        self._broken: dict[str, str] = {}
        self._loaded = self._loading = False
        self._lock = threading.RLock()

    def register(self, name: str, *, order: int = 100) -> Callable[[T], T]:
        """Decorator that registers a member.

        Args:
            name: Its name, unique in the registry.
            order: Where it is listed, small first; equal ones by name.

        Raises:
            ValueError: Another member has the name. The same class or function of the same module,
                defined again (a notebook's cell, a reload), takes the place of the old one.
        """

        def add(member: T) -> T:
            there = self._members.get(name)
            if there is not None and _where(there) != _where(member):
                raise ValueError(f"two {self.what}s are called {name!r}")
            self._members[name] = member
            self._order[name] = order
            return member

        return add

    def named(self, name: str, field: str = "") -> T:
        """The member of a name.

        Args:
            name: The name.
            field: What said so, for the message: `engine.kind`.

        Raises:
            ConfigError: There is none; the sentence names the nearest.
        """
        self._load()
        if name in self._members:
            return self._members[name]
        near = difflib.get_close_matches(name, self._members, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(self)}"
        lost = "".join(f"; {who} cannot be imported: {why}" for who, why in self._broken.items())
        given = f'`{field}` = "{name}"' if field else repr(name)
        raise ConfigError(f"{given}: there is no such {self.what}; {hint}{lost}")

    @property
    def broken(self) -> Mapping[str, str]:
        """Entry points that could not be imported (`package: name`), and why."""
        self._load()
        return MappingProxyType(self._broken)

    def __getitem__(self, name: str) -> T:
        """The member of a name; KeyError without one."""
        self._load()
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        """All names, as listed."""
        self._load()
        return iter(sorted(self._members, key=lambda n: (self._order[n], n)))

    def __len__(self) -> int:
        """How many there are."""
        self._load()
        return len(self._members)

    def _load(self) -> None:
        if self._loaded:
            return
        with self._lock:
            # A module of the folder may ask while it is being imported: it sees what is there.
            if self._loaded or self._loading:
                return
            self._loading = True
            try:
                if self._package is not None:
                    package = importlib.import_module(self._package)
                    for module in pkgutil.iter_modules(package.__path__, self._package + "."):
                        importlib.import_module(module.name)
                for entry in metadata.entry_points(group=self._group):
                    self._add(entry)
                self._loaded = True
            finally:
                self._loading = False

    def _add(self, entry: metadata.EntryPoint) -> None:
        try:
            entry.load()
        except Exception as e:  # whatever somebody else's module raises
            owner = "?" if entry.dist is None else entry.dist.name
            self._broken[f"{owner}: {entry.name}"] = f"{type(e).__name__}: {one_line(e, 200)}"


def _where(member: Any) -> tuple[Any, Any]:
    """Where a class or function is defined; an object is only itself."""
    name = getattr(member, "__qualname__", None)
    return (member.__module__, name) if name is not None else (id(member), None)
