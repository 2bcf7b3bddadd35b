"""What an operator should know about a MySQL or MariaDB store: what makes it forget, and the way to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import metadata

from jobcard.backends.mysql.connection import OLDEST_MARIADB, OLDEST_MYSQL, Connection
from jobcard.backends.mysql.drivers import chosen
from jobcard.backends.mysql.options import Options
from jobcard.backends.url import is_this_machine
from jobcard.core import findings
from jobcard.core.findings import Finding, error, ok, warning

_SEMI_SYNC = ("rpl_semi_sync_master_enabled", "rpl_semi_sync_source_enabled")

VARIABLES = (
    "innodb_flush_log_at_trx_commit", "innodb_doublewrite", "log_bin", "sync_binlog", "wsrep_on", "read_only",
    "super_read_only", *_SEMI_SYNC,
)  # fmt: skip

_OLDEST_DRIVERS = {"pymysql": ("PyMySQL", (1, 1)), "mysqlclient": ("mysqlclient", (2, 1))}
_HOW = "`set global {}`, and the same in the server's configuration file"


def driver(options: Options) -> Finding:
    """The driver's version."""
    name, _ = chosen(options)
    shown, oldest = _OLDEST_DRIVERS[name]
    # By the package's own record: mysqlclient's module does not say.
    return findings.version(
        "versions.driver", shown, metadata.version(shown), oldest, "pip install --upgrade 'jobcard[mysql]'"
    )


def server(connection: Connection) -> Finding:
    """The server's version."""
    name, oldest = ("MariaDB", OLDEST_MARIADB) if connection.is_mariadb else ("MySQL", OLDEST_MYSQL)
    return findings.version("versions.server", name, connection.version, oldest, "upgrade the server")


def durability(variables: Mapping[str, str]) -> list[Finding]:
    """What the newest confirmed jobs outlive. variables: the server's, those it has."""
    told = {name.lower(): value.upper() for name, value in variables.items()}
    return [_flush(told), _binlog(told), _doublewrite(told), _galera(told), _read_only(told), _survives(told)]


def _flush(told: Mapping[str, str]) -> Finding:
    code, name = "durability.innodb_flush_log_at_trx_commit", "innodb_flush_log_at_trx_commit"
    value, fix = told.get(name, "1"), _HOW.format(f"{name} = 1")
    if value == "0":
        return error(code, name, f"{name}=0: the last second may be lost when the server dies", fix)
    if value != "1":
        return warning(code, name, f"{name}={value}: the last second may be lost with the power", fix)
    return ok(code, name, f"{name}=1: each commit waits for the disk")


def _binlog(told: Mapping[str, str]) -> Finding:
    code, name, value = "durability.sync_binlog", "sync_binlog", told.get("sync_binlog", "1")
    if told.get("log_bin") != "ON":
        return ok(code, name, "the server keeps no binary log")
    if value != "1":
        return warning(
            code,
            name,
            f"sync_binlog={value}: after a crash of the host the binary log may lack what the server has, or the other "
            "way round",
            _HOW.format("sync_binlog = 1"),
        )
    return ok(code, name, "sync_binlog=1")


def _doublewrite(told: Mapping[str, str]) -> Finding:
    code, name = "durability.innodb_doublewrite", "innodb_doublewrite"
    if told.get(name) in ("OFF", "0", "DETECT_ONLY"):
        return warning(
            code,
            name,
            "innodb_doublewrite is off: a crash of the host may damage the tables, unless the file system writes whole "
            "pages",
            "innodb_doublewrite = ON in the server's configuration file, and start it anew",
        )
    return ok(code, name, "innodb_doublewrite is on")


def _galera(told: Mapping[str, str]) -> Finding:
    code, name = "durability.galera", "wsrep_on"
    if told.get(name) == "ON":
        return error(
            code,
            name,
            "wsrep_on=ON: in a Galera cluster two engines may be given the same job, and confirmed jobs were lost in a "
            "healthy one: it is not supported",
            "use a single server, with replicas if you like",
        )
    return ok(code, name, "the server is no member of a Galera cluster")


def _read_only(told: Mapping[str, str]) -> Finding:
    code, name = "durability.standby", "read_only"
    if "ON" in (told.get("read_only"), told.get("super_read_only")):
        text = "read_only=ON: the server takes no jobs from ordinary users"
        return error(code, name, text, "give the URL of its primary, or `set global read_only = off` if it is that")
    return ok(code, name, "the server takes writes")


def _survives(told: Mapping[str, str]) -> Finding:
    power = {
        "0": "but neither a crash of the server nor the loss of power: the last second may be gone",
        "1": "a crash of the server and the loss of power",
    }.get(told.get("innodb_flush_log_at_trx_commit", "1"), "a crash of the server, but not the loss of power")
    semi = any(told.get(name) == "ON" for name in _SEMI_SYNC)
    fail_over = (
        "and as a rule a fail-over: replication is semi-synchronous, and asynchronous when no replica answers"
        if semi
        else "but not a fail-over to a replica, where the newest may be missing: replication is asynchronous"
    )
    return findings.survives("this store", f"confirmed jobs outlive the processes that use it, {power}, {fail_over}")


# ------------------------------------------------------------------ the way to it


def way(connection: Connection, options: Options) -> Iterator[Finding]:
    """Who can read along, and who is let in."""
    local = bool(options.unix_socket) or is_this_machine(options.host)
    cipher = connection.execute("show session status like 'Ssl_cipher'")
    yield findings.secrecy(
        options.host,
        local=local,
        encrypted=bool(cipher and cipher[0][1]),
        fix="give the server a certificate and add ssl_mode=verify_identity (or required) to the URL",
    )
    yield findings.password(
        options.user,
        local=local,
        given=bool(options.password or options.ssl_cert),
        fix="give the user a password: alter user … identified by '…'",
    )
