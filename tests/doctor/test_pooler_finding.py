"""PgBouncer in front of PostgreSQL: the doctor sees it, and says what the URL lacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from patient import Patient

from helpers.pgbouncer import pooled
from helpers.places import Place, new_place
from helpers.quick import Commands, QuickApp
from jobcard.backends.postgres.checkup import pooler

pytestmark = pytest.mark.slow


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Place]:
    with new_place("postgres", tmp_path) as place:
        yield place


def test_a_pooler_that_the_url_does_not_name(postgres: Place, tmp_path: Path, commands: Commands) -> None:
    """It says what to write; so written all is well, and so is the server's own address."""
    direct = Patient(QuickApp(tmp_path, commands), postgres.url)
    assert direct.app.jobcard("migrate", env={"JOBCARD_URL": direct.url}).code == 0
    [told] = direct.named("url.pooler")
    assert told["severity"] == "ok"
    with pooled(postgres.url, ignore_startup_parameters="extra_float_digits,options") as (url, _):
        through = Patient(direct.app, postgres.behind(urlsplit(url).port or 0))
        [told] = through.named("store.refused", code=1)
        assert "pooler=transaction" in told["text"]
        named = Patient(direct.app, f"{through.url}&pooler=transaction&listen=off")
        [told] = named.named("url.pooler")
        assert told["severity"] == "ok"
        assert named.run("--strict").code == 0


def test_a_pooler_that_lets_everything_through() -> None:
    """One that cannot be told from the server but by its process number: a warning with the options to add."""
    told = pooler(1, 2, pooled=False)
    assert told.severity == "warning"
    assert "pooler=transaction" in told.fix and "listen=off" in told.fix
