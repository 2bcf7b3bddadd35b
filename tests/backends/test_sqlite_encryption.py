"""Encrypted SQLite files: where the key comes from, what a wrong one does, another key, and that none is ever shown."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from helpers.apps import App
from helpers.stores import PATIENCE, SPAWN, raw
from helpers.waiting import wait_until
from jobcard import Jobcard
from jobcard.backends.base import Backend
from jobcard.backends.registry import open_backend
from jobcard.backends.sqlite import SQLiteBackend, encryption
from jobcard.backends.sqlite.options import read_options
from jobcard.backends.url import has_password, mask
from jobcard.conformance import BackendSuite, Crowd, Harness, factory
from jobcard.conformance.drawing import SERVER
from jobcard.core.clock import FrozenClock
from jobcard.errors import ConfigError, StoreUnavailableError

KEY = "x'" + "5e" * 32 + "'"
"""Used as it is: no test waits for a key to be made of a passphrase, but where it is one."""
OTHER_KEY = "x'" + "a7" * 32 + "'"
PASSPHRASE = "Straßenbahn' or 1 --"


@pytest.fixture
def locked(path: Path) -> Iterator[SQLiteBackend]:
    """An encrypted store, its schema in place."""
    backend = SQLiteBackend(path, encryption_key=KEY)
    backend.migrate()
    yield backend
    backend.close()


def opens(path: Path, key: str | None) -> bool:
    """Whether a file opens with a key."""
    backend = SQLiteBackend(path, encryption_key=key)
    try:
        backend.check_schema()
    except ConfigError:
        return False
    finally:
        backend.close()
    return True


def everything_said(error: BaseException) -> str:
    """An error and all that stand behind it."""
    said = ""
    while error is not None:
        said += f"{error!r} {error} {error.args} {vars(error)}\n"
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return said


class TestFile:
    def test_nothing_of_it_can_be_read(self, locked: SQLiteBackend, path: Path) -> None:
        """Neither arguments nor the schema stand in the file or its log, and no library opens it without the key."""
        factory.enqueue(locked, args='["a-very-plain-text"]')
        files = [path, Path(f"{path}-wal")]
        assert all(file.stat().st_size for file in files)
        for file in files:
            content = file.read_bytes()
            assert not [word for word in (b"a-very-plain-text", b"SQLite", b"jobcard", b"create") if word in content]
        locked.close()
        for library in ("apsw", "sqlite3"):
            with pytest.raises(ConfigError, match="encrypted"):
                SQLiteBackend(path, library=library).tally()

    def test_a_passphrase_is_a_key(self, path: Path) -> None:
        """Any text is, quotes and all; and nothing but it opens the file."""
        backend = SQLiteBackend(path, encryption_key=PASSPHRASE)
        backend.migrate()
        factory.enqueue(backend)
        backend.close()
        assert opens(path, PASSPHRASE)
        assert not [wrong for wrong in (PASSPHRASE[:-1], KEY, None) if opens(path, wrong)]

    def test_a_wrong_key_is_named_and_changes_nothing(
        self, locked: SQLiteBackend, path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Whatever is tried with it is a `ConfigError` that says so; no verb writes, and nothing is printed."""
        factory.enqueue(locked)
        locked.close()
        before = path.read_bytes()
        wrong = SQLiteBackend(path, encryption_key=OTHER_KEY)
        for verb in (wrong.migrate, wrong.check_schema, wrong.tally, lambda: factory.enqueue(wrong), wrong.facts):
            with pytest.raises(ConfigError, match="encryption key does not open") as caught:
                verb()
            assert "a7a7" not in everything_said(caught.value)
        wrong.close()
        assert path.read_bytes() == before
        assert capfd.readouterr() == ("", "")

    def test_a_key_for_a_file_that_has_none(self, store: SQLiteBackend, path: Path) -> None:
        """A file that is not encrypted is not opened with a key, and not changed."""
        store.close()
        before = path.read_bytes()
        with pytest.raises(ConfigError, match="or the file is not encrypted"):
            SQLiteBackend(path, encryption_key=KEY).migrate()
        assert path.read_bytes() == before

    def test_it_says_what_it_is(self, locked: SQLiteBackend) -> None:
        """Health names the library, which is as current as the default one."""
        facts = locked.facts()
        assert "sqlcipher" in facts.version
        assert facts.problems == []
        assert not [finding for finding in locked.examine() if finding.severity == "error"]

    def test_without_the_package_it_says_what_to_install(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The extra is named, and no file is left behind."""
        monkeypatch.setitem(sys.modules, "sqlcipher3", None)
        with pytest.raises(ConfigError, match=r"jobcard\[encryption\]"):
            SQLiteBackend(path, encryption_key=KEY).migrate()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.slow
@pytest.mark.turns
class TestEncryptedSQLite(BackendSuite):
    """An encrypted file keeps every promise of the default store."""

    # The same store without a key is tested at full size.
    histories = SERVER
    crowd = Crowd(histories=5)

    @pytest.fixture
    def harness(self, tmp_path: Path) -> Iterator[Harness]:
        numbers = count()

        def new_store(clock: FrozenClock) -> Callable[[], Backend]:
            path = tmp_path / f"{next(numbers)}.db"
            # Nobody cuts the power here.
            return lambda: SQLiteBackend(path, clock=clock, encryption_key=KEY, synchronous="normal")

        harness = Harness(new_store, spoil=spoil)
        yield harness
        harness.close()


def spoil(store: Backend, job_id: bytes) -> None:
    """Arguments that are no text."""
    assert isinstance(store, SQLiteBackend)
    raw(store, "update jobcard_jobs set args = cast(x'22ff22' as text) where id = ?", job_id)


class TestKeys:
    def test_where_a_key_may_come_from(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Text, a function, a variable that code or the URL names: the same key."""
        monkeypatch.setenv("SHOP_KEY", KEY)
        for given in (
            read_options(path, {"encryption_key": KEY}),
            read_options(path, {"encryption_key": lambda: KEY}),
            read_options(path, {"encryption_key_env": "SHOP_KEY"}),
            read_options(f"sqlite:///{path}?encryption_key_env=SHOP_KEY", {}),
        ):
            assert given[1].encryption_key == KEY
            assert given[1].library == "sqlcipher"

    def test_a_key_never_stands_in_a_url(self) -> None:
        """Not even with a word for it: a URL is shown and logged. The name of a variable may stand there."""
        for url in ("sqlite:///j.db?encryption_key=hush", "sqlite:///j.db?encryption_key_env=hush"):
            with pytest.raises(ConfigError, match="encryption_key") as caught:
                open_backend(url)
            assert "hush" not in everything_said(caught.value)
            assert "hush" not in mask(url)
        assert not has_password("sqlite:///j.db?encryption_key_env=SHOP_KEY&pool_size=2")
        assert has_password("sqlite:///j.db?encryption_key_env=Shop&pool_size=2")

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"encryption_key_env": "NOT_THERE"}, "'NOT_THERE' is not set"),
            ({"encryption_key_env": "EMPTY"}, "1 to 1,000"),
            ({"encryption_key": ""}, "1 to 1,000"),
            ({"encryption_key": "k" * 1_001}, "1 to 1,000"),
            ({"encryption_key": "k\x00"}, "NUL"),
            ({"encryption_key": 7}, "text or a function"),
            ({"encryption_key": lambda: b"key"}, "not bytes"),
            ({"encryption_key": lambda: 1 // 0}, "failed .ZeroDivisionError"),
            ({"encryption_key": "k", "encryption_key_env": "EMPTY"}, "give one"),
            ({"encryption_key": "k", "library": "apsw"}, "library=apsw opens no encrypted"),
            ({"encryption_key": "k", "temp_store": "file"}, "temp_store"),
            ({"library": "sqlcipher"}, "give encryption_key"),
        ],
    )
    def test_what_cannot_be_a_key(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str
    ) -> None:
        """It is said before anything is opened."""
        monkeypatch.setenv("EMPTY", "")
        with pytest.raises(ConfigError, match=words):
            SQLiteBackend(path, **options)
        assert not path.exists()

    def test_in_memory_there_is_nothing_to_encrypt(self) -> None:
        """A key for a store in memory would promise what nobody keeps."""
        with pytest.raises(ConfigError, match="in memory"):
            SQLiteBackend("sqlite:///:memory:", encryption_key=KEY)

    def test_no_key_is_ever_shown(
        self, path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Not by a store, its options, a client or its settings, and in no line of the log."""
        with caplog.at_level(logging.DEBUG), Jobcard(f"sqlite:///{path}", encryption_key=lambda: "hush-hush") as jobs:
            jobs.enqueue("shop.ship")
            with jobs.parts.connection as store:
                shown = [repr(store), repr(store._options), str(store.facts()), str(store.examine())]  # type: ignore[attr-defined]
            shown += [repr(jobs), repr(jobs.settings), str(jobs.health())]
        out, err = capfd.readouterr()
        assert "hush" not in " ".join((*shown, caplog.text, out, err))


class TestClient:
    def test_a_function_is_asked_once_in_a_process(self, path: Path) -> None:
        """At the first use and not before; what it says serves all threads and connections."""
        asked: list[int] = []

        def key() -> str:
            asked.append(1)
            return KEY

        with Jobcard(f"sqlite:///{path}", encryption_key=key) as jobs:
            assert asked == []
            handle = jobs.enqueue("shop.ship", [1])
            assert jobs.get(handle.id).args == [1]
        assert asked == [1]
        assert opens(path, KEY)

    @pytest.mark.parametrize("option", ["key_env='SHOP_KEY'", "key=lambda: os.environ['SHOP_KEY']"])
    def test_engines_and_commands_work_on_an_encrypted_file(self, tmp_path: Path, option: str) -> None:
        """The engine, in processes of its own, has the key from the application; a command, from the URL's variable."""
        app = App(tmp_path)
        app.write(
            "shop.py",
            f"""
            import os
            from jobcard import Jobcard

            jobs = Jobcard("sqlite:///jobcard.db", encryption_{option})

            @jobs.job
            def add(a, b):
                return a + b

            if __name__ == "__main__":
                with jobs.running():
                    print(add.enqueue(2, 3).result(timeout=50))
            """,
        )
        secret = {"SHOP_KEY": KEY}
        ran = app.python("shop.py", env=secret)
        assert (ran.code, ran.out) == (0, "5\n"), ran.err
        url = "sqlite:///jobcard.db?encryption_key_env=SHOP_KEY"
        listed = app.jobcard("jobs", "list", "--url", url, env=secret)
        assert listed.code == 0 and "shop.add" in listed.out
        assert listed.err == ""
        refused = app.jobcard("stats", "--url", "sqlite:///jobcard.db", env=secret)
        assert refused.code == 2 and "encrypted" in refused.err
        assert "5e5e" not in "".join((ran.out, ran.err, listed.out, listed.err, refused.out, refused.err))


def _rekey(path: Path, old: str, new: str) -> None:
    encryption.change_key(str(path), read_options(path, {"encryption_key": old})[1], new)


class TestRekey:
    def test_the_new_key_opens_it_and_the_old_one_does_not(self, locked: SQLiteBackend, path: Path) -> None:
        """All jobs are there, in WAL mode again, and the store that did it is closed."""
        ids = factory.enqueue_several(locked, 100)
        locked.rekey(OTHER_KEY)
        assert not opens(path, KEY)
        again = SQLiteBackend(path, encryption_key=OTHER_KEY)
        assert len(again.get(ids)) == 100
        assert raw(again, "pragma journal_mode") == [("wal",)]
        assert raw(again, "pragma cipher_integrity_check") == []
        again.close()

    def test_a_file_in_use_keeps_its_key(self, locked: SQLiteBackend, path: Path) -> None:
        """Somebody who has it open would go on with the old key: it is refused, and both go on."""
        factory.enqueue(locked)
        changer = SQLiteBackend(path, encryption_key=KEY, busy_timeout=0.05)
        with pytest.raises(StoreUnavailableError, match="in use"):
            changer.rekey(OTHER_KEY)
        factory.enqueue(locked)
        locked.close()
        assert opens(path, KEY)

    def test_a_file_without_a_key_gets_none(self, store: SQLiteBackend, path: Path) -> None:
        """What is not encrypted does not become so; a bad new key changes nothing either."""
        store.close()
        with pytest.raises(ConfigError, match="not encrypted"):
            SQLiteBackend(path).rekey(KEY)
        assert opens(path, None)
        with pytest.raises(ConfigError, match="1 to 1,000"):
            SQLiteBackend(path, encryption_key=KEY).rekey("")

    @pytest.mark.parametrize("moment", ["begun", "half"])
    def test_a_death_leaves_the_old_key_or_the_new(self, locked: SQLiteBackend, path: Path, moment: str) -> None:
        """Killed while pages are written anew, the file opens with one of both, whole."""
        factory.enqueue_several(locked, 1_000, args='["' + "x" * 20_000 + '"]')
        locked.close()
        size = path.stat().st_size
        changer = SPAWN.Process(target=_rekey, args=(path, KEY, OTHER_KEY))
        changer.start()
        journal = Path(f"{path}-journal")
        far = size // 2 if moment == "half" else 1

        def is_far() -> bool:
            try:
                return journal.stat().st_size >= far
            except OSError:
                return not changer.is_alive()

        wait_until(is_far, "the journal of the change", interval=0.0001)
        assert changer.pid is not None
        if changer.is_alive():
            os.kill(changer.pid, signal.SIGKILL)
        changer.join(PATIENCE)
        works = [key for key in (KEY, OTHER_KEY) if opens(path, key)]
        assert len(works) == 1
        again = SQLiteBackend(path, encryption_key=works[0])
        assert again.tally().counts["waiting"] == 1_000
        assert raw(again, "pragma integrity_check") == [("ok",)]
        assert raw(again, "pragma cipher_integrity_check") == []
        again.close()

    def test_the_command(self, tmp_path: Path, path: Path, locked: SQLiteBackend) -> None:
        """`jobcard rekey` takes both keys from variables; neither is shown."""
        locked.close()
        app = App(tmp_path)
        url = f"sqlite:///{path}?encryption_key_env=OLD"
        keys = {"OLD": KEY, "NEW": OTHER_KEY}
        missing = app.jobcard("rekey", "--url", url, "--new-key-env", "NOPE", env=keys)
        assert missing.code == 2 and "'NOPE' is not set" in missing.err
        ran = app.jobcard("rekey", "--url", url, "--new-key-env", "NEW", env=keys)
        assert ran.code == 0, ran.err
        assert opens(path, OTHER_KEY)
        again = app.jobcard("rekey", "--url", url, "--new-key-env", "NEW", env=keys)
        assert again.code == 2 and "does not open" in again.err
        assert not [word for word in ("5e5e", "a7a7") if word in ran.out + ran.err + again.out + again.err]
