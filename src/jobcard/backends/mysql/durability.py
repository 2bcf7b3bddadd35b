"""What makes a server forget what it confirmed, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

VARIABLES = (
    "innodb_flush_log_at_trx_commit", "innodb_doublewrite", "log_bin", "sync_binlog", "wsrep_on", "read_only",
    "super_read_only",
)  # fmt: skip


def problems(variables: Mapping[str, str]) -> Sequence[str]:
    """Each setting that weakens the store, with its remedy. variables: the server's, those it has."""
    found = []
    told = {name.lower(): value.upper() for name, value in variables.items()}
    flush = told.get("innodb_flush_log_at_trx_commit", "1")
    if flush == "0":
        found.append("innodb_flush_log_at_trx_commit=0: the last second may be lost when the server dies; set it to 1")
    elif flush != "1":
        found.append(f"innodb_flush_log_at_trx_commit={flush}: the last second may be lost with the power; set it to 1")
    if told.get("log_bin") == "ON" and told.get("sync_binlog", "1") != "1":
        found.append(
            f"sync_binlog={told['sync_binlog']}: after a crash of the host the binary log may lack what the server "
            "has, or the other way round; set it to 1"
        )
    if told.get("innodb_doublewrite") in ("OFF", "0", "DETECT_ONLY"):
        found.append(
            "innodb_doublewrite is off: a crash of the host may damage the tables, unless the file system writes whole "
            "pages; switch it on"
        )
    if told.get("wsrep_on") == "ON":
        found.append(
            "wsrep_on=ON: in a Galera cluster two engines may be given the same job, and confirmed jobs were lost in a "
            "healthy one; use a single server, with replicas if you like"
        )
    if "ON" in (told.get("read_only"), told.get("super_read_only")):
        found.append("read_only=ON: the server takes no jobs from ordinary users; connect to its primary")
    return found
