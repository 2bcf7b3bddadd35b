"""What an operator should know about a MongoDB store: what weakens it, what it outlives, and the way to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pymongo
from pymongo.errors import OperationFailure

from jobcard.backends.mongodb.connection import Document, Store
from jobcard.backends.mongodb.options import Options
from jobcard.backends.mongodb.schema import OLDEST
from jobcard.backends.url import StoreURL, is_this_machine
from jobcard.core import findings
from jobcard.core.findings import MOST_HELD, Finding, error, note, ok, warning

_UNAUTHORIZED = 13
_OLDEST_DRIVER = (4, 10)


class Answers(NamedTuple):
    """What the server's commands told; None: this user may not ask, {}: it has nothing to say."""

    hello: Document
    status: Document | None
    replica_set: Document | None
    started: Document | None


def ask(store: Store) -> Answers:
    """Ask the server about itself."""
    admin = store.client.admin

    def answer(command: str, **more: Any) -> Document | None:
        try:
            return dict(admin.command(command, **more))
        except OperationFailure as failure:
            return None if failure.code == _UNAUTHORIZED else {}

    settings = answer("replSetGetConfig")
    started = answer("getCmdLineOpts")
    return Answers(
        hello=dict(admin.command("hello")),
        status=answer("serverStatus", connections=1, storageEngine=1),
        replica_set=None if settings is None else settings.get("config", {}),
        started=None if started is None else started.get("parsed", {}),
    )


def driver() -> Finding:
    """The driver's version."""
    return findings.version(
        "versions.driver", "PyMongo", pymongo.version, _OLDEST_DRIVER, "pip install --upgrade 'jobcard[mongodb]'"
    )


def server(store: Store) -> Finding:
    """The server's version."""
    return findings.version(
        "versions.server", "MongoDB", store.client.server_info()["version"], OLDEST, "upgrade the server"
    )


def durability(answers: Answers) -> list[Finding]:
    """What the newest confirmed jobs outlive."""
    return [
        ok("durability.write_concern", "w, j", "every write waits for the journals of a majority (w=majority, j=true)"),
        _storage_engine(answers.status),
        _journal(answers.started),
        _majority(answers),
        _members(answers),
        _survives(answers),
    ]


def _untold(code: str, subject: str) -> Finding:
    text = "this user may not ask the server about it"
    return note(code, subject, text, "grant the user the role clusterMonitor on admin while the doctor looks")


def _storage_engine(status: Document | None) -> Finding:
    code, subject = "durability.storage_engine", "storageEngine"
    if status is None:
        return _untold(code, subject)
    engine = status.get("storageEngine", {})
    if engine.get("persistent") is False:
        text = f"the storage engine {engine.get('name')} keeps jobs in memory only"
        return error(code, subject, text, "use wiredTiger: storage.engine in the server's configuration file")
    return ok(code, subject, f"the storage engine {engine.get('name')} keeps jobs on disk")


def _journal(started: Document | None) -> Finding:
    code, subject = "durability.journal", "storage.journal.enabled"
    if started is None:
        return _untold(code, subject)
    if started.get("storage", {}).get("journal", {}).get("enabled") is False:
        text = "the journal is off: jobs of the last minute are lost when the server dies"
        return error(code, subject, text, "start the server with its journal: no --nojournal")
    return ok(code, subject, "the journal is on")


def _majority(answers: Answers) -> Finding:
    code, subject = "durability.majority_journal", "writeConcernMajorityJournalDefault"
    if "setName" not in answers.hello:
        return ok(code, subject, "a server of no replica set is its own majority")
    if answers.replica_set is None:
        return _untold(code, subject)
    if answers.replica_set.get(subject) is False:
        return error(
            code,
            subject,
            f"{subject} is false: what a majority has may not be on disk",
            "set it to true by rs.reconfig()",
        )
    return ok(code, subject, "what a majority has is in its journals")


def _members(answers: Answers) -> Finding:
    code, subject = "durability.members", "members"
    data = len(answers.hello.get("hosts", ())) + len(answers.hello.get("passives", ()))
    if data == 2:
        return warning(
            code,
            subject,
            "a replica set with two data members accepts no write when one is down",
            "add a third: rs.add(…)",
        )
    name = answers.hello.get("setName")
    return ok(code, subject, f"{data} data members in the replica set {name}" if name else "one server, no replica set")


def _survives(answers: Answers) -> Finding:
    data = len(answers.hello.get("hosts", ())) + len(answers.hello.get("passives", ()))
    fail_over = "and a fail-over" if data > 2 else "there is nothing to fail over to: give it a replica set of three"
    return findings.survives(
        "this store",
        f"confirmed jobs outlive the processes that use it, a crash of the server and the loss of power; {fail_over}",
    )


# ------------------------------------------------------------------ the way to it


def way(url: StoreURL, options: Options) -> Iterator[Finding]:
    """Who can read along, and who is let in."""
    hosts = [url.host, *(host for host, _ in url.others)]
    local = all(map(is_this_machine, hosts))
    subject = ",".join(host or "localhost" for host in hosts)
    # A name of DNS records brings TLS with it, unless it is switched off.
    encrypted = bool(options.driver.get("tls", url.scheme == "mongodb+srv"))
    yield findings.secrecy(
        subject, local=local, encrypted=encrypted, fix="start the servers with TLS and add tls=true to the URL"
    )
    yield findings.password(
        subject,
        local=local,
        given=bool(url.user or options.driver.get("authMechanism")),
        fix="make a user, start the server with --auth, and put user and password into the URL",
    )


def set_aside(store: Store) -> list[Finding]:
    """Jobs out of the line, along the index of held jobs."""
    limit, per_name = {"$limit": MOST_HELD}, {"$group": {"_id": "$name", "number": {"$sum": 1}}}
    parked = store.jobs.aggregate([{"$match": {"hold": "parked"}}, limit, per_name], hint="hold")
    broken = store.jobs.count_documents({"hold": "broken"}, limit=MOST_HELD, hint="hold")
    return findings.set_aside([*((str(one["_id"]), one["number"]) for one in parked), (None, broken)])
