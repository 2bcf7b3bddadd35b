"""Where the store is, when it is opened, and what a `Jobcard` can be told."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobcard import ConfigError, Jobcard, JobcardError, Queue, SchemaVersionError
from jobcard.backends.registry import open_backend


def test_constructing_opens_and_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the first use nothing is opened and no environment is read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOBCARD_URL", "no url at all")
    jobs = Jobcard()

    @jobs.job
    def add(a: int, b: int) -> int:
        return a + b

    assert add(1, 2) == 3
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("JOBCARD_URL", f"sqlite:///{tmp_path}/late.db")
    add.enqueue(1, 2)
    assert jobs.count().total == 1
    assert (tmp_path / "late.db").exists()
    jobs.close()


class TestURL:
    def test_the_order_is_code_environment_project_default(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The URL in code wins over $JOBCARD_URL, that over pyproject.toml, and without any it is a file here."""
        inner = tmp_path / "a" / "b"
        inner.mkdir(parents=True)
        monkeypatch.chdir(inner)
        assert Jobcard().settings.url == "sqlite:///jobcard.db"
        (tmp_path / "pyproject.toml").write_text('[tool.jobcard]\nurl = "sqlite:///project.db"\n')
        (tmp_path / "a" / "pyproject.toml").write_text("[tool.other]\n")
        assert Jobcard().settings.url == "sqlite:///project.db"
        monkeypatch.setenv("JOBCARD_URL", "sqlite:///env.db")
        assert Jobcard().settings.url == "sqlite:///env.db"
        assert Jobcard("sqlite:///code.db").settings.url == "sqlite:///code.db"
        monkeypatch.setenv("JOBCARD_URL", "")
        assert Jobcard().settings.url == "sqlite:///project.db"

    @pytest.mark.parametrize(
        "content",
        [
            b"[tool.jobcard\nurl = 1",
            b"\xff\xfe\x00",
            b'\xef\xbb\xbf[tool.jobcard]\nurl = "sqlite:///x.db"',
            b'[tool.jobcard]\nurl = "a\x00b"',
            b"[tool.jobcard]\nurl = 5",
            b"[tool]\njobcard = 5",
            b'[tool.jobcard]\nurll = "sqlite:///x.db"',
            b"#" * ((1 << 20) + 1),
        ],
        ids=["syntax", "encoding", "bom", "nul", "type", "no table", "misspelt", "huge"],
    )
    def test_a_bad_project_file_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
        """A pyproject.toml that cannot be understood is never passed over in silence."""
        (tmp_path / "pyproject.toml").write_bytes(content)
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ConfigError, match=r"pyproject\.toml"):
            Jobcard().count()
        assert [path.name for path in tmp_path.iterdir()] == ["pyproject.toml"]

    @pytest.mark.parametrize("url", ["", "foo://x", "sqlite:/x", "shop.db", "http://[", "postgres:/x"])
    def test_a_bad_url_is_a_config_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        """Nothing is opened in another place instead."""
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ConfigError):
            Jobcard(url).count()
        assert list(tmp_path.iterdir()) == []

    def test_a_password_is_never_shown(self) -> None:
        """Neither the object nor an error about its URL shows it."""
        jobs = Jobcard("foo://user:s3cret@host/db")
        assert "s3cret" not in repr(jobs)
        assert "s3cret" not in repr(jobs.settings)
        assert "s3cret" not in repr(Jobcard(config={"password": "s3cret"}).settings)
        with pytest.raises(ConfigError) as caught:
            jobs.count()
        assert "s3cret" not in str(caught.value)


class TestOptions:
    @pytest.mark.parametrize(
        "given",
        [
            {"max_concurrent_jobs": 0},
            {"max_concurrent_jobs": -1},
            {"max_concurrent_jobs": 10**6},
            {"max_concurrent_jobs": "4"},
            {"lease": 10, "heartbeat": 5},
            {"heartbeat": float("nan")},
            {"queues": "mail"},
            {"queues": ["mail"]},
            {"queues": [Queue("a"), Queue("a")]},
            {"queues": 5},
            {"imports": "shop.jobs"},
            {"imports": [5]},
            {"config": ["prefix"]},
            {"config": {5: "x"}},
            {"config": {"clock": object()}},
            {"config": {"prefix": ["a"]}},
            {"url": 5},
            {"url": Path("x.db")},
            {"migrate": "no"},
            {"strict_durability": 1},
            {"start_method": "fork"},
            {"start_method": None},
            {"worker_client": "pipe"},
            {"worker_client": True},
            {"cancel_grace": -1},
            {"cancel_grace": "10"},
            {"cancel_grace": None},
            {"cancel_grace": float("inf")},
        ],
        ids=str,
    )
    def test_a_bad_one_is_refused_at_once(self, given: dict[str, Any]) -> None:
        """It is not found out later, in an engine."""
        with pytest.raises(ConfigError):
            Jobcard(**given)

    def test_a_misspelt_one_names_the_nearest(self) -> None:
        """`concurency` is not ignored."""
        with pytest.raises(ConfigError, match="max_concurrent_jobs"):
            Jobcard(max_concurent_jobs=4)  # type: ignore[call-arg]
        with pytest.raises(ConfigError, match="timeout"):
            Jobcard().job(timeoutt=5)  # type: ignore[call-overload]

    def test_configure_follows_until_the_first_use(self, url: str) -> None:
        """What is given later counts, the rest stays; after the first use nothing can change."""
        jobs = Jobcard(max_concurrent_jobs=3, imports=["a"])
        jobs.configure(url, queues=[Queue("mail")], max_concurrent_jobs=5)
        with pytest.raises(ConfigError):
            jobs.configure(max_concurrent_jobs=0)
        assert jobs.count().total == 0
        assert (jobs.settings.max_concurrent_jobs, jobs.settings.imports) == (5, ("a",))
        assert (jobs.settings.url, jobs.settings.queues) == (url, (Queue("mail"),))
        with pytest.raises(ConfigError, match="first use"):
            jobs.configure(max_concurrent_jobs=6)
        jobs.close()

    def test_a_store_object_is_taken_as_it_is(self, url: str) -> None:
        """`backend=` may be a store made already, a class, or its dotted path; then no URL is looked up."""
        store = open_backend(url)
        with Jobcard(backend=store) as jobs:
            jobs.enqueue("x")
            assert jobs.settings.url is None
        with Jobcard(url, backend="jobcard.backends.sqlite:SQLiteBackend") as jobs:
            assert jobs.count().total == 1
            with pytest.raises(ConfigError, match="backend="):
                jobs.start()
        with pytest.raises(ConfigError):
            Jobcard(url, backend="no.such:Thing").count()

    def test_store_options_go_through(self, tmp_path: Path) -> None:
        """`config` reaches the store, and a misspelt key is refused."""
        with Jobcard(f"sqlite:///{tmp_path}/a.db", config={"prefix": "mine_"}) as jobs:
            assert jobs.health().ok
        with pytest.raises(ConfigError, match="prefix"):
            Jobcard(f"sqlite:///{tmp_path}/a.db", config={"prefx": "mine_"}).count()

    def test_durations_among_them_become_seconds(self, tmp_path: Path) -> None:
        """A timedelta would not reach the engine's process."""
        with Jobcard(f"sqlite:///{tmp_path}/a.db", config={"busy_timeout": timedelta(minutes=1)}) as jobs:
            assert jobs.settings.config == {"busy_timeout": 60.0}
            assert jobs.health().ok


class TestSchema:
    def test_the_first_use_migrates(self, jobs: Jobcard) -> None:
        """Nothing has to be prepared."""
        assert jobs.health().schema_version == 4
        assert jobs.migrate() == []

    def test_migrate_tells_what_it_did(self, jobs: Jobcard) -> None:
        """It returns the versions applied, and rolling back returns the one taken back."""
        assert jobs.migrate() == [1, 2, 3, 4]
        assert jobs.migrate() == []
        assert [jobs.rollback_migration() for _ in range(4)] == [4, 3, 2, 1]
        assert jobs.rollback_migration() is None
        assert jobs.migrate() == [1, 2, 3, 4]

    def test_without_migrate_a_missing_schema_is_told(self, url: str) -> None:
        """`migrate=False` writes nothing; `migrate()` still does when asked."""
        with Jobcard(url, migrate=False) as jobs:
            with pytest.raises(SchemaVersionError):
                jobs.count()
            with pytest.raises(SchemaVersionError):
                jobs.enqueue("x")
            assert jobs.migrate() == [1, 2, 3, 4]
            assert jobs.count().total == 0


class TestClosing:
    def test_a_closed_client_refuses(self, url: str) -> None:
        """Every call says that it is closed; closing again is fine."""
        with Jobcard(url) as jobs:
            handle = jobs.enqueue("x")
        jobs.close()
        for call in (jobs.count, jobs.stats, jobs.migrate, handle.refresh, handle.result, lambda: jobs.enqueue("x")):
            with pytest.raises(ConfigError, match="closed"):
                call()
        assert not jobs.health().ok

    def test_closing_before_use_opens_nothing(self, tmp_path: Path) -> None:
        """A client that was never used leaves no file."""
        Jobcard(f"sqlite:///{tmp_path}/x.db").close()
        assert list(tmp_path.iterdir()) == []


def test_threads_that_come_first_together_share_one_store(url: str) -> None:
    """Of many first uses at once one opens and migrates; none fails, each job is stored once."""
    jobs = Jobcard(url)
    gate = threading.Barrier(8)
    errors: list[BaseException] = []

    def work() -> None:
        gate.wait()
        try:
            for _ in range(20):
                jobs.enqueue("x")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert jobs.count().total == 160
    jobs.close()


@pytest.mark.parametrize("place", ["missing/jobs.db", "."], ids=["no parent", "a directory"])
def test_a_place_that_cannot_be_is_a_jobcard_error(tmp_path: Path, place: str) -> None:
    """Whatever a store call raises is ours."""
    jobs = Jobcard(f"sqlite:///{tmp_path}/{place}")
    with pytest.raises(JobcardError):
        jobs.enqueue("x")
    with pytest.raises(JobcardError):
        jobs.list()
    assert not jobs.health().ok
