"""`jobcard dashboard`: a real server, who it lets in, how it ends, and beside an engine."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest
from answers import complaint, succeeded
from terminal import PROGRAM, on_terminal, without_styles

from helpers.apps import App
from helpers.waiting import PATIENCE, wait_until
from jobcard.dashboard.users import add_user, list_users

PASSWORD = "correct horse battery staple"
_READY = re.compile(r"^ready: dashboard at (http://\S+)$", re.M)


class Serving:
    """A running command, and what it says."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    def said(self) -> str:
        """Everything so far."""
        return self._log.read_text("utf-8")

    def address(self) -> str:
        """Where the dashboard is, when it is there."""

        def is_there() -> bool:
            return bool(_READY.search(self.said())) or self.process.poll() is not None

        wait_until(is_there, "the ready line", timeout=4 * PATIENCE)
        found = _READY.search(self.said())
        assert found is not None, self.said()
        return found[1]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to stop and wait for its end; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(2 * PATIENCE)


Serve = Callable[..., Serving]


@pytest.fixture
def serve(shop: App) -> Iterator[Serve]:
    """Runs `jobcard …` in the shop; whatever still runs at the end is killed."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(_running(shop, arguments))


@contextmanager
def _running(app: App, arguments: tuple[str, ...]) -> Iterator[Serving]:
    log = app.directory / "serve.log"
    process = app.begin([sys.executable, "-m", "jobcard", *arguments], log)
    try:
        yield Serving(process, log)
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class TestServing:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_it_shows_the_store_until_told_to_stop(self, serve: Serve, number: signal.Signals) -> None:
        """For this machine, without users; exit code 0."""
        serving = serve("dashboard", "--port", "0")
        address = serving.address()
        assert address.startswith("http://127.0.0.1:")
        assert httpx2.get(address + "api/v1/overview").json()["counts"]["completed"] == 1
        assert httpx2.get(address, headers={"host": "evil.example"}).status_code == 400
        assert httpx2.get(address, headers={"x-forwarded-for": "127.0.0.1"}).status_code == 403
        assert serving.stop(number) == 0
        assert "Traceback" not in serving.said()

    def test_with_users_it_is_for_those(self, serve: Serve, shop: App) -> None:
        """At any address, under a base path."""
        add_user(shop.directory / "users.json", "anna", "viewer", PASSWORD, log_n=4)
        serving = serve("dashboard", "shop:jobs", "--host", "0.0.0.0", "--port", "0", "--users", "users.json",
                        "--base-path", "/ops")  # fmt: skip
        address = serving.address().replace("0.0.0.0", "127.0.0.1")
        assert address.endswith("/ops/")
        assert httpx2.get(address).headers["location"] == "/ops/login"
        assert httpx2.get(address + "api/v1/overview").status_code == 401
        assert httpx2.get(address + "api/v1/overview", auth=("anna", PASSWORD)).status_code == 200
        assert "anna" not in serving.said()

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "localhost.example", ""])
    def test_without_users_it_listens_nowhere_else(self, shop: App, host: str) -> None:
        """A usage error, whatever else is said: no option makes it open."""
        said = complaint(shop.jobcard("dashboard", "--host", host, "--port", "0"), 2)
        assert "--users" in said

    def test_a_users_file_without_users_is_refused(self, shop: App) -> None:
        """Also one that is not there."""
        assert "cannot be read" in complaint(shop.jobcard("dashboard", "--users", "none.json"), 2)

    def test_a_port_that_is_taken_is_told(self, shop: App) -> None:
        """In one line."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = str(other.getsockname()[1])
            assert "nothing can listen at" in complaint(shop.jobcard("dashboard", "--port", port), 2)


class TestBesideAnEngine:
    def test_start_shows_it_too(self, serve: Serve) -> None:
        """In a process of its own, which ends with the engine."""
        port = free_port()
        serving = serve("start", "shop:jobs", "--dashboard-port", str(port))
        address = serving.address()
        wait_until(lambda: "ready: engine" in serving.said(), "the engine", timeout=4 * PATIENCE)
        assert len(httpx2.get(address + "api/v1/overview").json()["engines"]) == 1
        assert serving.stop() == 0
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(address)

    def test_code_may_ask_for_it(self, shop: App) -> None:
        """`jobs.start(dashboard=…)`; it ends with `stop`."""
        shop.write(
            "code.py",
            f"""
            import time
            import httpx2
            from shop import jobs

            def seen():
                try:
                    return httpx2.get("http://127.0.0.1:{(port := free_port())}/healthz").text
                except httpx2.HTTPError:
                    return None

            if __name__ == "__main__":
                jobs.start(dashboard={port})
                until = time.monotonic() + {4 * PATIENCE}
                while seen() is None and time.monotonic() < until:
                    time.sleep(0.05)
                print(seen())
                jobs.stop()
                print(seen())
            """,
        )
        ran = succeeded(shop.python("code.py", timeout=8 * PATIENCE))
        assert ran.out.splitlines() == ["ok", "", "None"]


class TestUsers:
    def test_a_user_is_added_changed_and_removed(self, shop: App) -> None:
        """The password comes from standard input; only its hash is kept, in a file for its owner alone."""
        path = shop.directory / "users.json"
        command = ("-m", "jobcard", "dashboard", "user", "add", "anna", "--role")
        assert "added anna: viewer" in succeeded(shop.python(*command, "viewer", text=f"{PASSWORD}\n")).out
        assert "changed anna: admin" in succeeded(shop.python(*command, "admin", text=f"{PASSWORD}\n")).out
        assert [(each.name, each.role) for each in list_users(path)] == [("anna", "admin")]
        assert path.stat().st_mode & 0o777 == 0o600
        assert PASSWORD not in path.read_text("utf-8")
        succeeded(shop.jobcard("dashboard", "user", "remove", "anna"))
        assert list_users(path) == []

    @pytest.mark.parametrize("text", ["", "short\n"])
    def test_a_bad_password_changes_nothing(self, shop: App, text: str) -> None:
        """Nor does none."""
        ran = shop.python("-m", "jobcard", "dashboard", "user", "add", "anna", "--role", "viewer", text=text)
        assert "8 to" in complaint(ran, 2)
        assert not (shop.directory / "users.json").exists()

    def test_on_a_terminal_it_is_asked_for_twice(self, shop: App) -> None:
        """And never shown."""
        arguments = ("dashboard", "user", "add", "anna", "--role", "viewer")
        ran = on_terminal(shop, *arguments, columns=80, answer=f"{PASSWORD}\n", timeout=4 * PATIENCE)
        assert ran.code == 0, ran.out
        assert PASSWORD not in without_styles(ran.out)
        assert "added anna: viewer" in ran.out

    def test_the_installed_program_has_it(self) -> None:
        """By its short name."""
        ran = subprocess.run([PROGRAM, "dashboard", "--help"], capture_output=True, text=True, check=True, timeout=60)
        assert "jobcard dashboard user add anna" in ran.stdout
