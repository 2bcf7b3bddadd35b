"""The file of users: names, roles, hashes of passwords, and the key that signs their sessions.

    {"key": "64 hex digits", "users": {"anna": {"role": "operator", "password": "scrypt$…"}}}

It is made, and changed, by `jobcard dashboard user add`, and read again when it has changed: no restart is needed.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from jobcard.dashboard import passwords
from jobcard.dashboard.roles import Role, Visitor, visitor
from jobcard.errors import ConfigError

_log = logging.getLogger("jobcard.dashboard")

_KEY_BYTES = 32
_OPEN_TO_OTHERS = 0o027
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class User:
    """One line of the file."""

    role: Role
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Content:
    key: str = field(repr=False)
    users: Mapping[str, User]


class Users:
    """The users of a file, as it is now; any thread may ask."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """`ConfigError` when the file is missing, unreadable, empty, or others may read it or write to it."""
        self._path = Path(path).absolute()
        self._lock = threading.Lock()
        self._stamp = _stamp_of(self._path)
        self._content = _read(self._path)
        if not self._content.users:
            raise ConfigError(f"{self._path} has no users: `jobcard dashboard user add NAME --users FILE` adds one")
        # Checked against when a name is unknown: that takes as long, so an answer's time tells no names.
        self._nobody = next(iter(self._content.users.values())).password

    @property
    def key(self) -> bytes:
        """What sessions are signed with."""
        return bytes.fromhex(self._now().key)

    def find(self, name: str) -> User | None:
        """The user of this name."""
        return self._now().users.get(name)

    def check(self, name: str, password: str) -> Visitor | None:
        """Who this is, if the password is right; takes some tenths of a second either way."""
        user = self.find(name)
        right = passwords.matches(password, self._nobody if user is None else user.password)
        return Visitor(name, user.role) if user is not None and right else None

    def _now(self) -> _Content:
        with self._lock:
            try:
                stamp = _stamp_of(self._path)
                if stamp != self._stamp:
                    self._content = _read(self._path)
                    self._stamp = stamp
            except ConfigError as error:
                # A file that cannot be read lets nobody in; who was in stays in no longer either.
                _log.error("%s; nobody can sign in", error)
                self._content = _Content(self._content.key, {})
                self._stamp = None
            return self._content


def add_user(path: str | os.PathLike[str], name: str, role: str, password: str, *, log_n: int | None = None) -> bool:
    """Add a user, or give one another role and password; whether the name is new. The file is made if need be."""
    file = Path(path).absolute()
    checked = visitor(name, role)
    hashed = passwords.hash_password(password, **({} if log_n is None else {"log_n": log_n}))
    content = _read(file) if file.exists() else _Content(secrets.token_hex(_KEY_BYTES), {})
    _write(file, _Content(content.key, {**content.users, name: User(checked.role, hashed)}))
    return name not in content.users


def remove_user(path: str | os.PathLike[str], name: str) -> None:
    """Remove a user, whose sessions end; `ConfigError` when there is none of this name."""
    file = Path(path).absolute()
    content = _read(file)
    if name not in content.users:
        raise ConfigError(f"{file} has no user of this name")
    _write(file, _Content(content.key, {each: user for each, user in content.users.items() if each != name}))


def list_users(path: str | os.PathLike[str]) -> list[Visitor]:
    """The users of a file, by name."""
    return [Visitor(name, user.role) for name, user in sorted(_read(Path(path).absolute()).users.items())]


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        about = path.stat()
    except OSError as error:
        raise ConfigError(f"the users file {path} cannot be read: {error.strerror}") from error
    if about.st_mode & _OPEN_TO_OTHERS:
        # Who reads its key can sign a session for anybody.
        raise ConfigError(f"the users file {path} can be read or written by others: chmod 600 {path}")
    return about.st_mtime_ns, about.st_size, about.st_ino


def _read(path: Path) -> _Content:
    try:
        with path.open("rb") as file:
            document: Any = json.loads(file.read(_MOST_BYTES + 1))
        key = document["key"]
        if len(bytes.fromhex(key)) < _KEY_BYTES or len(set(key)) < 8:
            raise ValueError("its key is too short, or made up")
        users = {
            visitor(name, user["role"]).name: User(Role(user["role"]), str(user["password"]))
            for name, user in document["users"].items()
        }
    except OSError as error:
        raise ConfigError(f"the users file {path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ConfigError) as error:
        raise ConfigError(f"the users file {path} is none that `jobcard dashboard user add` wrote") from error
    return _Content(key, users)


def _write(path: Path, content: _Content) -> None:
    users = {name: {"role": user.role, "password": user.password} for name, user in content.users.items()}
    text = json.dumps({"key": content.key, "users": users}, indent=2) + "\n"
    try:
        # A temporary file is for its owner alone, and takes the place of the old one in one step.
        with NamedTemporaryFile("w", dir=path.parent, prefix=".users-", delete=False, encoding="utf-8") as file:
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, path)  # noqa: PTH105
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise ConfigError(f"the users file {path} cannot be written: {error.strerror}") from error
