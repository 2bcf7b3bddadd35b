"""PgBouncer in front of PostgreSQL: the doctor sees it, and says what the URL lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from patient import Patient

from helpers.apps import App
from helpers.places import Place, new_place
from helpers.servers import KINDS
from helpers.servers.common import free_port, give
from helpers.waiting import wait_until
from jobcard.backends.url import parse

pytestmark = pytest.mark.slow


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Place]:
    with new_place("postgres", tmp_path) as place:
        yield place


@pytest.fixture
def bouncer(postgres: Place) -> Iterator[int]:
    """The port of a PgBouncer in transaction mode that lets everything in."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if program is None:
        pytest.skip("NOT TESTED BEHIND PGBOUNCER: apt-get install pgbouncer")
    server, port = parse(postgres.url), free_port()
    folder = Path(tempfile.mkdtemp(prefix="jobcard-bouncer-"))
    (folder / "users.txt").write_text(f'"{server.user}" "{server.password}"\n')
    (folder / "bouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {folder / 'users.txt'}\npool_mode = transaction\n"
        "ignore_startup_parameters = extra_float_digits, options\n"
    )
    user = KINDS["postgres"].user()
    for path in (folder, *folder.iterdir()):
        give(path, user)
    process = subprocess.Popen(
        [program, "-q", str(folder / "bouncer.ini")],
        user=user,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        extra_groups=[] if user else None,
    )
    try:
        wait_until(lambda: KINDS["postgres"].is_up(port) or process.poll() is not None, "PgBouncer")
        assert process.poll() is None
        yield port
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_pooler_that_the_url_does_not_name(postgres: Place, bouncer: int, tmp_path: Path) -> None:
    """A warning with the options to add; with them it is well, and so is the server's own address."""
    direct = Patient(App(tmp_path), postgres.url)
    assert direct.app.jobcard("migrate", env={"JOBCARD_URL": direct.url}).code == 0
    [told] = direct.named("url.pooler")
    assert told["severity"] == "ok"
    through = Patient(direct.app, postgres.behind(bouncer))
    [told] = through.named("url.pooler")
    assert told["severity"] == "warning"
    assert "pooler=transaction" in told["fix"] and "listen=off" in told["fix"]
    named = Patient(direct.app, f"{through.url}&pooler=transaction&listen=off")
    [told] = named.named("url.pooler")
    assert told["severity"] == "ok"
    assert named.run("--strict").code == 0
