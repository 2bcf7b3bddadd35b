"""The two drivers behind one tiny interface: PyMySQL, and mysqlclient where it is installed.

Both are asked for bytes and told here how to read them, so that one value that is no text spoils nothing else.
"""

from __future__ import annotations

import functools
import select
import socket
import ssl
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

from jobcard.backends.mysql.options import Options
from jobcard.backends.sql.connection import Result
from jobcard.errors import ConfigError


def _imported(name: str) -> ModuleType | None:
    try:
        return import_module(name)
    except ImportError:
        return None


mysqldb = _imported("MySQLdb")
# Where neither is there, the error names the one that the extra brings.
pymysql = _imported("pymysql") if mysqldb is not None else import_module("pymysql")

# What the protocol numbers them.
_WHOLE_NUMBERS = (1, 2, 3, 8, 9, 13)
_TEXTS = (249, 250, 251, 252, 253)
_FOUND_ROWS, _MULTI_STATEMENTS, _MULTI_RESULTS = 1 << 1, 1 << 16, 1 << 17


class Unreadable(str):
    """Stands where a value is no text in UTF-8."""

    __slots__ = ()


class Body(Protocol):
    """What the drivers are asked for. Their errors come out as they are."""

    fileno: int | None

    def query(self, text: bytes) -> list[Result]: ...

    def found_unreadable(self) -> bool: ...

    def close(self) -> None: ...


def chosen(options: Options) -> tuple[str, ModuleType]:
    """The driver that the options name, or whichever is there: its name and its module."""
    name = options.driver
    if name == "auto":
        # Whether mysqlclient can check a certificate depends on the library it was built with.
        checks = options.ssl_mode in ("verify_ca", "verify_identity") and pymysql is not None
        name = "pymysql" if mysqldb is None or checks else "mysqlclient"
    module = mysqldb if name == "mysqlclient" else pymysql
    if module is None:
        raise ConfigError(
            "driver=mysqlclient, but the package mysqlclient is not installed"
            if name == "mysqlclient"
            else "driver=pymysql, but the package PyMySQL is not installed: pip install 'jobcard[mysql]'"
        )
    return name, module


def open_body(options: Options, *, read_timeout: float) -> Body:
    """Connect by the driver the options name, or by whichever is there."""
    name, _ = chosen(options)
    return (_MySQLClientBody if name == "mysqlclient" else _PyMySQLBody)(options, read_timeout)


class _Reader:
    """Reads the values of one connection."""

    def __init__(self) -> None:
        self.found_unreadable = False

    def text(self, value: bytes) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError:
            self.found_unreadable = True
            return Unreadable()

    def converters(self) -> dict[int, Callable[[bytes], object]]:
        return {**dict.fromkeys(_WHOLE_NUMBERS, int), **dict.fromkeys(_TEXTS, self.text)}

    def take(self) -> bool:
        found, self.found_unreadable = self.found_unreadable, False
        return found


class _PyMySQLBody:
    def __init__(self, options: Options, read_timeout: float) -> None:
        assert pymysql is not None
        self._reader = _Reader()
        self._raw = _connection_class()(
            host=options.host,
            port=options.port,
            user=options.user,
            password=options.password.encode(),  # as it is; the driver would take Latin-1 only
            database=options.database,
            charset="utf8mb4",
            use_unicode=False,
            conv=self._reader.converters(),
            autocommit=None,
            client_flag=_FOUND_ROWS | _MULTI_STATEMENTS,
            connect_timeout=max(1, round(options.connect_timeout)),
            read_timeout=read_timeout,
            write_timeout=read_timeout,
            local_infile=False,
            defer_connect=True,
            **_security(options),
            **options.unsafe,
        )
        plug = _plug_in(options)
        self.fileno: int | None = plug.fileno()
        try:
            self._raw.connect(plug)
        except BaseException:
            plug.close()
            raise

    def query(self, text: bytes) -> list[Result]:
        with self._raw.cursor() as cursor:
            cursor.execute(text)
            results = [Result(cursor.fetchall() or (), cursor.rowcount)]
            while cursor.nextset():
                results.append(Result(cursor.fetchall() or (), cursor.rowcount))
        return results

    def found_unreadable(self) -> bool:
        return self._reader.take()

    def close(self) -> None:
        if self._raw.open:
            self._raw.close()


@functools.cache
def _connection_class() -> Any:
    """The driver's own, but that it looks for no certificates where it will check none: that takes it a while."""
    assert pymysql is not None

    class Connection(pymysql.connections.Connection):  # type: ignore[misc,name-defined]
        def _create_ssl_ctx(self, asked: Any) -> Any:
            return super()._create_ssl_ctx(asked) if asked else _unchecked()

    return Connection


@functools.cache
def _unchecked() -> ssl.SSLContext:
    """TLS with whoever is there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _plug_in(options: Options) -> socket.socket:
    """A socket on which the server has begun to speak: one that hangs takes connections and says nothing."""
    if options.unix_socket:
        plug = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        plug.settimeout(options.connect_timeout)
    else:
        plug = socket.create_connection((options.host, options.port), options.connect_timeout)
    try:
        if options.unix_socket:
            plug.connect(options.unix_socket)
        else:
            plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # So that a server which vanished without a word is noticed.
            for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
                if hasattr(socket, name):
                    plug.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        poller = select.poll()
        poller.register(plug, select.POLLIN)
        if not poller.poll(options.connect_timeout * 1e3):
            raise TimeoutError("the server does not answer")
    except BaseException:
        plug.close()
        raise
    return plug


def _security(options: Options) -> Mapping[str, object]:
    """How PyMySQL shall use TLS."""
    if options.ssl_mode == "disabled":
        return {"ssl_disabled": True}
    if options.ssl_mode == "preferred":
        return {}
    context = ssl.create_default_context(cafile=options.ssl_ca)
    context.check_hostname = options.ssl_mode == "verify_identity"
    context.verify_mode = ssl.CERT_NONE if options.ssl_mode == "required" else ssl.CERT_REQUIRED
    # Certificates that a server has made for itself do not pass it.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    if options.ssl_cert:
        context.load_cert_chain(options.ssl_cert, options.ssl_key)
    return {"ssl": context}


class _MySQLClientBody:
    def __init__(self, options: Options, read_timeout: float) -> None:
        assert mysqldb is not None
        self._reader = _Reader()
        place: dict[str, object] = {"host": options.host, "port": options.port}
        if options.unix_socket:
            place = {"unix_socket": options.unix_socket}
        self._raw = mysqldb.connect(
            **place,
            user=options.user,
            password=options.password,
            database=options.database,
            charset="utf8mb4",
            use_unicode=False,
            conv=self._reader.converters(),
            client_flag=_FOUND_ROWS | _MULTI_STATEMENTS | _MULTI_RESULTS,
            connect_timeout=max(1, round(options.connect_timeout)),
            read_timeout=max(1, round(read_timeout)),
            write_timeout=max(1, round(read_timeout)),
            local_infile=0,
            **_security_of_client(options),
            **options.unsafe,
        )
        self.fileno: int | None = self._raw.fileno()

    def query(self, text: bytes) -> list[Result]:
        cursor = self._raw.cursor()
        try:
            cursor.execute(text)
            results = [Result(cursor.fetchall() or (), cursor.rowcount)]
            while cursor.nextset() is not None:
                results.append(Result(cursor.fetchall() or (), cursor.rowcount))
        finally:
            cursor.close()
        return results

    def found_unreadable(self) -> bool:
        return self._reader.take()

    def close(self) -> None:
        self._raw.close()


def _security_of_client(options: Options) -> Mapping[str, object]:
    files = {"ca": options.ssl_ca, "cert": options.ssl_cert, "key": options.ssl_key}
    given = {name: path for name, path in files.items() if path}
    return {"ssl_mode": options.ssl_mode.upper(), **({"ssl": given} if given else {})}
