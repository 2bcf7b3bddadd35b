"""What is no proper request, sent over real sockets to the real program: it answers in its own time, or not at all."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator

import pytest
from raw_server import Server, everything, running, status
from visitors import write_users

from helpers.apps import App
from helpers.waiting import PATIENCE, wait_until

_FORM = "Content-Type: application/x-www-form-urlencoded\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One with users, as patient as always."""
    app = App(tmp_path_factory.mktemp("served"))
    write_users(app.directory / "users.json")
    more = ("--users", "users.json", "--allowed-host", "localhost")
    with running(app, 40, 20, *more) as found:
        yield found
        assert found.is_well()
        said = found.log.read_text("utf-8")
        assert "Traceback" not in said, said


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for this machine, that waits a second for each request and less for its body."""
    with running(App(tmp_path_factory.mktemp("hurried")), 1.5, 0.5) as found:
        yield found
        assert found.is_well()
        said = found.log.read_text("utf-8")
        assert "Traceback" not in said, said


def request(line: str, *headers: str, host: str = "localhost") -> bytes:
    """The head of one."""
    lines = (line, f"Host: {host}", *headers)
    return "\r\n".join((*lines, "", "")).encode("latin-1")


class TestMalformed:
    @pytest.mark.parametrize(
        "said",
        [
            b"GET /\r\nx\r\n\r\n",
            b"GET /\r\n\r\n",
            b"\r\n\r\n\r\n\r\nx\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/x\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
            b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX : a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
            b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9" + b"9" * 30 + b"\r\n\r\n",
            request("GET / HTTP/1.1", *(f"X-{number}: {number}" for number in range(10_000))),
            request("GET / HTTP/1.1", "Authorization: Basic " + "A" * (10 << 20)),
            b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ],
        ids=lambda said: said[:40],
    )
    def test_what_is_no_request_is_refused(self, server: Server, said: bytes) -> None:
        """400, or another 4xx, and the connection ends; HTTP/0.9 too."""
        with server.connect() as connection:
            try:
                connection.sendall(said)
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it had answered before all was said
            answer = everything(connection)
        # What is not answered was cut off: a sudden end takes the answer along where more was sent than was read.
        assert (answer == b"" and len(said) > 30_000) or 400 <= status(answer) < 500 or status(answer) == 501
        assert server.is_well()

    @pytest.mark.parametrize("host", ["", "evil.example", "localhost.evil.example", "127.0.0.1", "[::1", "a b", "é"])
    def test_another_host_is_refused(self, server: Server, host: str) -> None:
        """It is known by the names it was told: whatever a page makes its own name lead to."""
        for path in ("/healthz", "/login", "/static/jobcard.css", "/api/v1/jobs"):
            answer = server.answers(request(f"GET {path} HTTP/1.1", "Connection: close", host=host))
            assert status(answer) == 400

    @pytest.mark.parametrize("other", [b"Content-Length: 4", b"Content-Length: 0", b"content-length: 999"])
    @pytest.mark.parametrize("method", [b"POST", b"GET"])
    def test_two_lengths_are_one_too_many(self, server: Server, method: bytes, other: bytes) -> None:
        """400, and nothing that follows is taken for a request."""
        head = method + b" /login HTTP/1.1\r\nHost: localhost\r\n" + other + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        smuggled = b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        answer = server.answers(head + smuggled)
        assert status(answer) == 400
        assert answer.count(b"HTTP/1.1 ") == 1


class TestBodies:
    @pytest.mark.parametrize("size", [100_000, 1 << 30, 1 << 62])
    def test_a_long_one_is_refused_unread(self, server: Server, size: int) -> None:
        """1 GiB of it: 413 as soon as it is too much, or 401 before, and never more than the bound is kept."""
        for path in ("/login", "/jobs/bulk", "/api/v1/jobs/bulk", "/nothing", "/"):
            head = request(f"POST {path} HTTP/1.1", f"Content-Length: {size}", _FORM.strip(), "Connection: close")
            assert status(server.answers(head, *([b"a" * 65_536] * 4))) in (401, 403, 405, 413)

    def test_one_without_end_is_refused(self, server: Server) -> None:
        """Chunk after chunk."""
        head = request("POST /login HTTP/1.1", "Transfer-Encoding: chunked", _FORM.strip(), "Connection: close")
        chunk = b"4000\r\n" + b"a" * 0x4000 + b"\r\n"
        assert status(server.answers(head, *([chunk] * 40))) == 413

    def test_who_may_write_sends_no_more_either(self, server: Server) -> None:
        """Signed in by the header, with a gibibyte."""
        said = "Authorization: Basic " + "b3BlcmF0b3I6Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ=="
        head = request("POST /api/v1/jobs/bulk HTTP/1.1", f"Content-Length: {1 << 30}", said, "Connection: close",
                       "Content-Type: application/json")  # fmt: skip
        assert status(server.answers(head, *([b" " * 65_536] * 4))) == 413


@pytest.mark.slow
@pytest.mark.turns
class TestSlowness:
    @pytest.mark.parametrize(
        "begun",
        [
            b"",
            b"G",
            b"GET / HTTP/1.1\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nX: ",
            b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n",
            b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n",
        ],
    )
    def test_who_dawdles_is_let_go(self, hurried: Server, begun: bytes) -> None:
        """A byte now and then keeps no place: the end comes all the same, with 408 or without a word."""
        with hurried.connect() as connection:
            connection.settimeout(0.1)
            connection.sendall(begun)
            found, until = b"", time.monotonic() + PATIENCE
            while time.monotonic() < until:
                try:
                    part = connection.recv(4096)
                    if not part:
                        break
                    found += part
                except TimeoutError:
                    try:
                        if begun:
                            connection.sendall(b"a")
                    except OSError:
                        break
                except ConnectionResetError:
                    break
            else:
                raise AssertionError(f"still there: {found!r}")
        assert found == b"" or 200 <= int(found.split()[1]) < 500

    def test_a_form_that_trickles_is_told_so(self, hurried: Server) -> None:
        """408, by us."""
        page = hurried.answers(request("GET /api/v1/session HTTP/1.1", "Connection: close"))
        cookie = re.search(rb"set-cookie: ([^;]+);", page, re.I)
        token = re.search(rb'"csrf_token":"([0-9a-f]+)"', page)
        assert cookie is not None and token is not None
        head = request("POST /api/v1/jobs/bulk HTTP/1.1", "Content-Length: 1000", f"Cookie: {cookie[1].decode()}",
                       f"X-CSRF-Token: {token[1].decode()}", "Connection: close",
                       "Content-Type: application/json")  # fmt: skip
        assert status(hurried.answers(head, b"{")) == 408

    def test_who_does_not_read_is_let_go(self, hurried: Server) -> None:
        """However much was asked for: requests without end, of which no answer is taken."""
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(0.2)
            connection.connect(("127.0.0.1", hurried.port))
            asked = request("GET /static/vendor/htmx.min.js HTTP/1.1") * 50
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:
                try:
                    connection.send(asked)
                except TimeoutError:
                    continue
                except OSError:
                    break
            else:
                raise AssertionError("still there")

    def test_places_come_back(self, hurried: Server) -> None:
        """More connections than there are places, each with half a request: soon it answers others again."""
        held = [hurried.connect() for _ in range(210)]
        for connection in held:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
        wait_until(hurried.is_well, "a place", interval=0.1)
        for connection in held:
            connection.close()
