"""`jobcard bench` and `jobcard demo`: that they do what they say, never how fast."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from answers import listed, succeeded
from terminal import on_terminal, without_styles

from helpers.apps import App
from jobcard.backends import registry
from jobcard.backends.base import Capabilities
from jobcard.cli.demo_run import find_sources
from jobcard.cli.figures import percentile
from jobcard.cli.own_store import own_store
from jobcard.errors import ConfigError

SLOW = 300.0
MISBEHAVE = {
    "demo.segfault": ("failed", "crash", 1),
    "demo.endless_loop": ("failed", "timeout", 1),
    "demo.hard_exit": ("failed", "crash", 1),
    "demo.memory_hog": ("failed", "memory", 1),
    "demo.flaky": ("completed", None, 3),
}


class TestBench:
    @pytest.mark.slow
    def test_it_prints_its_figures(self, bare: App) -> None:
        """The five figures, in jobs a second and milliseconds; the store of --url is left as it was."""
        succeeded(bare.jobcard("migrate"))
        command = ("bench", "--jobs", "60", "--url", "sqlite:///jobcard.db", "--json")
        figures = json.loads(succeeded(bare.jobcard(*command, timeout=SLOW)).out)
        assert set(figures) == {
            *("jobs", "drain_per_s", "enqueue_per_s", "enqueue_many_per_s", "pickup_p50_ms", "pickup_p99_ms"),
        }
        assert figures["drain_per_s"] > 0
        assert 0 < figures["pickup_p50_ms"] <= figures["pickup_p99_ms"]
        assert listed(bare) == []
        assert not list(bare.directory.glob("jobcard-*"))


@pytest.mark.slow
@pytest.mark.turns
class TestDemo:
    def test_every_job_ends_as_it_was_meant_to(self, bare: App) -> None:
        """Exit code 0, one JSON object: files indexed and merged while others crash, hang and take memory."""
        ran = succeeded(bare.jobcard("demo", "--files", "150", "--json", "--url", "sqlite:///demo.db", timeout=SLOW))
        report = json.loads(ran.out)
        assert report["ok"] is True
        assert (report["files"], report["indexed"], report["left"]) == (150, 150, 0)
        assert report["index"]["files"] == 150
        assert len(report["index"]["common"]) == 10
        assert (report["retried"], report["crashed"]) == (1, 4)
        ended = {job["name"]: (job["state"], job["reason"], job["attempt"]) for job in report["misbehaved"]}
        assert ended == MISBEHAVE
        assert "indexed 150 of 150" in ran.err
        # --url keeps the jobs: the numbers can be looked up.
        assert len(listed(bare, "--url", "sqlite:///demo.db", "--state", "failed")) == report["crashed"]
        words = sum(
            sum(job["result"]["words"].values())
            for job in listed(bare, "--url", "sqlite:///demo.db", "--name", "demo.index", "--limit", "1000")
        )
        assert words == report["index"]["words"]

    @pytest.mark.slow
    @pytest.mark.parametrize("columns", [80, 20])
    def test_it_ends_with_a_summary(self, columns: int, bare: App) -> None:
        """On a terminal a bar, then the lines that scripts and people look for."""
        ran = on_terminal(bare, "demo", "--files", "40", columns=columns, timeout=SLOW)
        assert ran.code == 0, ran.out
        lines = without_styles(ran.out).splitlines()
        assert [line.split()[0] for line in lines[-6:-3]] == ["done", "retried", "crashed"]
        assert lines[-3].split()[1] == "jobs/s,"
        assert [line.split()[0] for line in lines[-2:]] == ["p50", "p99"]
        assert "Fatal Python error" not in ran.out

    def test_it_finds_source_files(self) -> None:
        """Those of this Python's library first, each once, and not more than asked for."""
        files = find_sources(300)
        assert len(files) == len(set(files)) == 300
        assert all(file.endswith(".py") and Path(file).is_file() for file in files)


class TestOwnStore:
    def test_without_a_url_it_is_a_temporary_file(self) -> None:
        """Of the kind a Jobcard has by itself, and gone afterwards."""
        with own_store(None) as url:
            assert url.startswith("sqlite:////")
            folder = Path(url.removeprefix("sqlite:///")).parent
            assert folder.is_dir()
        assert not folder.exists()

    def test_beside_a_sqlite_file_with_its_options(self, tmp_path: Path) -> None:
        """On the same disk, told the same; a path with odd characters too."""
        folder = tmp_path / "a b%?"
        folder.mkdir()
        with own_store(f"sqlite:///{tmp_path}/a%20b%25%3F/jobs.db?synchronous=normal") as url:
            assert url.endswith("/own.db?synchronous=normal")
            assert len(list(folder.iterdir())) == 1
        assert list(folder.iterdir()) == []

    def test_in_a_store_that_hosts_share_it_is_a_prefix(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The store says itself which it is; what was made under the prefix is taken back."""
        taken_back: list[str] = []

        class Shared:
            """A store on a server."""

            capabilities = Capabilities(
                max_batch=1, own_thread=True, one_commit_exchange=True, shared_by_hosts=True, survives_process=True
            )

            def __init__(self, url: str, **_: object) -> None:
                self.url = url

            def rollback(self) -> int | None:
                taken_back.append(self.url)
                return None

            def close(self) -> None:
                return

        monkeypatch.setattr(registry, "_find", lambda scheme, shown: Shared)
        with own_store("shared://db/x?pool_size=2") as url:
            assert url.startswith("shared://db/x?pool_size=2&prefix=bench_")
            assert taken_back == []
        assert taken_back == [url]
        for other in ("shared://db/x?prefix=shop_&pool_size=2", "shared://db/x?pool_size=2&%70refix=shop_"):
            with own_store(other) as url:
                assert url.startswith("shared://db/x?pool_size=2&prefix=bench_"), "in the stead of another one"

    def test_one_that_is_not_installed_is_refused(self) -> None:
        """Before anything is made."""
        with pytest.raises(ConfigError, match="no store is installed"), own_store("nowhere://db/x"):
            pytest.fail("never here")


class TestFigures:
    @pytest.mark.parametrize(
        ("values", "share", "expected"),
        [
            ([], 0.5, None),
            ([7.0], 0.99, 7.0),
            ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0),
            ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ],
    )
    def test_percentile(self, values: list[float], share: float, expected: float | None) -> None:
        """The smallest value that at least this share of all do not exceed."""
        assert percentile(values, share) == expected
