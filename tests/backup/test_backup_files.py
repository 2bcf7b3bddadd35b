"""The file of a backup: whole or not there, for its owner alone, and refused when one bit of it is another."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import resource
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from helpers.stock import everything
from helpers.stores import in_fork
from jobcard.backends.base import Filter
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.conformance import factory
from jobcard.core.job import JobRow
from jobcard.engine.dependents import Dependents
from jobcard.errors import BackupError, ConfigError
from jobcard.moving import archive
from jobcard.moving.backup import back_up, restore

Lines = list[Any]


def lines_of(file: Path) -> Lines:
    """What stands in a backup, by another hand: gzip and JSON alone."""
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]


def written(plain: bytes) -> bytes:
    """A backup whose frame is right, whatever is in it."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = archive.START + deflate.compress(plain) + deflate.flush()
    return sealed(body + zlib.crc32(plain).to_bytes(4, "little") + (len(plain) & 0xFFFFFFFF).to_bytes(4, "little"))


def sealed(body: bytes) -> bytes:
    """These bytes with the end that belongs to them."""
    return body + archive._BEFORE_SUM + sha256(body).digest() + archive._BEHIND_SUM


def plain_of(lines: Lines) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def changed(change: Callable[[Lines], object]) -> Callable[[Path], bytes]:
    """A backup written by somebody who knows how, of other lines."""

    def damaged(file: Path) -> bytes:
        lines = lines_of(file)
        change(lines)
        return written(plain_of(lines))

    return damaged


def first(lines: Lines, kind: str) -> int:
    return next(place for place, line in enumerate(lines) if isinstance(line, list) and line[0] == kind)


def job_field(name: str, value: object) -> Callable[[Path], bytes]:
    def change(lines: Lines) -> None:
        lines[first(lines, "job")][1][JobRow._fields.index(name)] = value

    return changed(change)


def twice(kind: str) -> Callable[[Path], bytes]:
    def change(lines: Lines) -> None:
        place = first(lines, kind)
        lines.insert(place, lines[place])
        lines[-1][1 + ("job", "record", "once").index(kind)] += 1

    return changed(change)


def swapped(lines: Lines) -> None:
    place = first(lines, "job")
    lines[place], lines[place + 1] = lines[place + 1], lines[place]


def tar_with_paths(file: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name in ("../../etc/cron.d/jobs", "/etc/passwd"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    return out.getvalue()


def zip_with_paths(file: Path) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr("../../jobs.db", file.read_bytes())
    return out.getvalue()


def zeros(size: int, *, lined: bool = False) -> bytes:
    """A backup of so many zero bytes, put together from one compressed piece."""
    unit = bytes(1 << 20) if not lined else b"[]\n" * (1 << 18)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    deflate.compress(unit)
    deflate.flush(zlib.Z_FULL_FLUSH)
    # After a full flush a piece stands for itself, so that it may be repeated.
    piece = deflate.compress(unit) + deflate.flush(zlib.Z_FULL_FLUSH)
    return sealed(archive.START + piece * (size // len(unit)) + deflate.flush() + bytes(8))


DAMAGES: dict[str, Callable[[Path], bytes]] = {
    "empty": lambda file: b"",
    "one byte": lambda file: archive.START[:1],
    "the first line cut": lambda file: file.read_bytes()[:40],
    "cut in the middle": lambda file: file.read_bytes()[: file.stat().st_size // 2],
    "without its end": lambda file: file.read_bytes()[: -archive._END_SIZE],
    "the last byte missing": lambda file: file.read_bytes()[:-1],
    "something behind it": lambda file: file.read_bytes() + b"\0",
    "twice in a row": lambda file: file.read_bytes() * 2,
    "a block of zeros": lambda file: _zeroed(file.read_bytes()),
    "text": lambda file: b"to whom it may concern\n" * 100,
    "a store": lambda file: (file.parent / "empty.db").read_bytes(),
    "another gzip file": lambda file: gzip.compress(b"hello\n" * 1000),
    "the right lines, compressed by somebody else": lambda file: gzip.compress(gzip.decompress(file.read_bytes())),
    "a tar with paths": tar_with_paths,
    "a zip with paths": zip_with_paths,
    "10 GiB of zeros": lambda file: zeros(10 << 30),
    "10 GiB of lines": lambda file: zeros(10 << 30, lined=True),
    "nothing in it": lambda file: written(b""),
    "no end line": changed(lambda lines: lines.pop()),
    "lines behind the end": changed(lambda lines: lines.append(lines[-1])),
    "no line end": lambda file: written(gzip.decompress(file.read_bytes())[:-1]),
    "a version to come": changed(lambda lines: lines[0].update(jobcard_backup=2)),
    "a version that is none": changed(lambda lines: lines[0].update(jobcard_backup="1")),
    "no version": changed(lambda lines: lines[0].pop("jobcard_backup")),
    "a header that is a list": changed(lambda lines: lines.__setitem__(0, ["jobcard_backup", 1])),
    "a header with more": changed(lambda lines: lines[0].update(encrypted=True)),
    "a field to come": changed(lambda lines: lines[0]["columns"].append("color")),
    "a field gone": changed(lambda lines: lines[0]["columns"].pop()),
    "fields in another order": changed(lambda lines: lines[0]["columns"].reverse()),
    "fewer jobs than it says": changed(lambda lines: lines.pop(first(lines, "job"))),
    "more jobs than it says": changed(lambda lines: lines[-1].__setitem__(1, lines[-1][1] - 1)),
    "fewer keys than it says": changed(lambda lines: lines.pop(first(lines, "once"))),
    "fewer records than it says": changed(lambda lines: lines.pop(first(lines, "record"))),
    "a job twice": twice("job"),
    "jobs in another order": changed(swapped),
    "a job behind the keys": changed(lambda lines: lines.insert(-1, lines.pop(first(lines, "job")))),
    "a line of another kind": changed(lambda lines: lines.insert(1, ["file", "../../etc/passwd", ""])),
    "a record of an engine": changed(lambda lines: lines[first(lines, "record")].__setitem__(1, "engine")),
    "a record of a path": changed(lambda lines: lines[first(lines, "record")].__setitem__(1, "../meta")),
    "a job with more": changed(lambda lines: lines[first(lines, "job")][1].append("red")),
    "a short id": job_field("id", "AAAA"),
    "an id that is no base64": job_field("id", "../../../etc/passwd"),
    "no state": job_field("state", None),
    "a state there is not": job_field("state", "resting"),
    "a number that is text": job_field("attempt", "1"),
    "a number that is a fraction": job_field("created_at", 1.5),
    "a number too large": job_field("created_at", 1 << 63),
    "a number far too large": job_field("claim_token", 1 << 200),
    "a line too long": lambda file: _with_line(file, b'["record","queue","x","' + b"x" * archive.MAX_LINE + b'"]'),
    "a line too deep": lambda file: _with_line(file, b"[" * 100_000 + b"]" * 100_000),
    "bad UTF-8": lambda file: _with_line(file, b'["record","queue","x","\xff\xfe"]'),
    "half a character": lambda file: _with_line(file, b'["record","queue","x","\\ud800"]'),
    "no JSON": lambda file: _with_line(file, b'["record","queue","x","y"'),
    "an empty line": lambda file: _with_line(file, b""),
    "a NUL": lambda file: _with_line(file, b"\0"),
}  # fmt: skip


def _zeroed(body: bytes) -> bytes:
    at = len(body) // 3
    return body[:at] + bytes(512) + body[at + 512 :]


def _with_line(file: Path, line: bytes) -> bytes:
    header, rest = gzip.decompress(file.read_bytes()).split(b"\n", 1)
    return written(header + b"\n" + line + b"\n" + rest)


class TestDamage:
    @pytest.mark.parametrize("kind", DAMAGES)
    def test_a_damaged_file_is_refused_and_nothing_is_written(
        self, kind: str, backup_file: Path, empty: SQLiteBackend
    ) -> None:
        """`BackupError` that names the file, by `restore` with and without merge; not a byte of the store changes."""
        before = bytes_of(backup_file.parent)
        backup_file.write_bytes(DAMAGES[kind](backup_file))
        for merge in (False, True):
            with pytest.raises(BackupError, match=r"shop\.jobcard"):
                restore(empty, backup_file, merge=merge)
        assert bytes_of(backup_file.parent) == before

    def test_every_bit_counts(self, backup_file: Path, empty: SQLiteBackend) -> None:
        """A bit flipped anywhere: in the frame, in every byte of the end, and at two hundred places between."""
        before = bytes_of(backup_file.parent)
        body = backup_file.read_bytes()
        chance = random.Random(6)
        size = len(body)
        edges = [*range(len(archive.START) + 20), *range(size - archive._END_SIZE - 20, size)]
        for place in [*edges, *chance.sample(range(size), 200)]:
            flipped = bytearray(body)
            flipped[place] ^= 1 << chance.randrange(8)
            backup_file.write_bytes(flipped)
            with pytest.raises(BackupError):
                restore(empty, backup_file)
        assert bytes_of(backup_file.parent) == before

    def test_every_cut_counts(self, backup_file: Path, empty: SQLiteBackend) -> None:
        """Cut off anywhere."""
        body = backup_file.read_bytes()
        chance = random.Random(7)
        for size in [*range(60), *range(len(body) - 80, len(body)), *chance.sample(range(len(body)), 40)]:
            backup_file.write_bytes(body[:size])
            with pytest.raises(BackupError):
                restore(empty, backup_file)
        assert everything(empty)["jobs"] == []

    def test_a_bomb_costs_little(self, backup_file: Path, empty: SQLiteBackend) -> None:
        """10 GiB of zeros are refused with less than 300 MiB of memory, as a line that does not end."""
        backup_file.write_bytes(zeros(10 << 30))
        assert backup_file.stat().st_size < 32 << 20

        def refuse() -> None:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (used + (300 << 20), -1))
            with pytest.raises(BackupError, match="a line is too long"):
                archive.Reader(backup_file).check()

        in_fork(refuse)

    def test_what_is_no_file_is_refused(self, tmp_path: Path, empty: SQLiteBackend) -> None:
        """A directory, a pipe that nobody writes into, a device without end, nothing at all: at once."""
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        for place in (tmp_path, pipe, Path("/dev/zero"), tmp_path / "missing", Path("/etc/passwd/x")):
            with pytest.raises(BackupError):
                restore(empty, place)

    def test_a_sound_file_is_not_refused(
        self, backup_file: Path, empty: SQLiteBackend, stocked: Path, full: SQLiteBackend
    ) -> None:
        """The test of the tests: by the same hand, unchanged, it is restored whole."""
        backup_file.write_bytes(changed(lambda lines: None)(backup_file))
        restore(empty, backup_file)
        assert everything(empty) == everything(full)


def bytes_of(folder: Path) -> dict[str, bytes]:
    """The files of the empty store but for the one that readers share."""
    return {path.name: path.read_bytes() for path in folder.glob("empty.db*") if not path.name.endswith("-shm")}


def older(lines: Lines) -> None:
    """As they were written before jobs could wait for others."""
    place = lines[0]["columns"].index("waits_for")
    lines[0]["columns"].pop(place)
    for line in lines:
        if isinstance(line, list) and line[0] == "job":
            line[1].pop(place)


class TestOlderFiles:
    @pytest.mark.parametrize("change", ["a job with more", "a field less", "no list", "twice", "another gone"])
    def test_one_that_is_damaged_is_refused_too(self, backup_file: Path, empty: SQLiteBackend, change: str) -> None:
        """With what stands in its own first line."""

        def damage(lines: Lines) -> None:
            older(lines)
            line = lines[first(lines, "job")]
            {
                "a job with more": lambda: line[1].append(None),
                "a field less": lambda: line[1].pop(),
                "no list": lambda: line.__setitem__(1, {}),
                "twice": lambda: lines[0]["columns"].append("meta"),
                "another gone": lambda: lines[0]["columns"].remove("meta"),
            }[change]()

        backup_file.write_bytes(changed(damage)(backup_file))
        with pytest.raises(BackupError, match=r"damaged|newer"):
            restore(empty, backup_file)
        assert empty.count(Filter()) == {}


class TestDependents:
    def test_those_that_wait_come_last(self, empty: SQLiteBackend, tmp_path: Path) -> None:
        """An engine that works meanwhile must not take a batch for over whose jobs are not all there yet."""
        batch = factory.new_id()
        last = factory.enqueue(empty, waits_for=f'[["batch","{UUID(bytes=batch)}","ended"]]')
        for of in (None, None, batch):
            factory.enqueue_several(empty, 700, batch_id=of)
        back_up(empty, tmp_path / "shop.jobcard")
        target = SQLiteBackend(tmp_path / "target.db")
        target.migrate()
        engine = Dependents(target)
        released: list[bytes] = []
        restored = restore(target, tmp_path / "shop.jobcard", tell=lambda _: released.extend(engine.look().released))
        assert (restored.jobs, released) == (2_101, [])
        assert factory.row_of(target, last) == factory.row_of(empty, last)
        assert engine.look().released == [] and factory.row_of(target, last).hold == "after"
        target.close()


class TestPlace:
    def test_only_its_owner_reads_it(self, full: SQLiteBackend, tmp_path: Path) -> None:
        """Mode 0600, whatever the umask and whatever the mode of an older one; nothing else is left beside it."""
        place = tmp_path / "new" / "shop.jobcard"
        place.parent.mkdir()
        before = os.umask(0)
        try:
            back_up(full, place)
            assert place.stat().st_mode & 0o777 == 0o600
            place.chmod(0o644)
            back_up(full, place, overwrite=True)
        finally:
            os.umask(before)
        assert place.stat().st_mode & 0o777 == 0o600
        assert [*place.parent.iterdir()] == [place]

    def test_any_tool_reads_it(self, backup_file: Path) -> None:
        """It is a gzip file of JSON lines, the first of which names what stands in the others."""
        ran = subprocess.run(["gzip", "-dc", str(backup_file)], capture_output=True, check=True, timeout=60)
        lines = [json.loads(line) for line in ran.stdout.splitlines()]
        assert lines[0]["columns"] == [*JobRow._fields]
        assert lines[-1][:2] == ["end", sum(line[0] == "job" for line in lines[1:])]

    def test_one_of_an_earlier_version_is_read(
        self, full: SQLiteBackend, empty: SQLiteBackend, backup_file: Path
    ) -> None:
        """What its jobs did not have yet is None in them; all the rest is as it was."""
        place = JobRow._fields.index("waits_for")

        def without(lines: list[Any]) -> None:
            assert lines[0]["columns"].pop(place) == "waits_for"
            for line in lines:
                if isinstance(line, list) and line[0] == "job":
                    line[1].pop(place)

        backup_file.write_bytes(changed(without)(backup_file))
        restore(empty, backup_file)
        still = Filter(states=("waiting", "completed", "failed", "canceled"))  # nobody is at work on a restored job
        expected = {row.id: row._replace(waits_for=None) for row in full.list(still, limit=1_000).rows}
        found = {row.id: row for row in empty.list(still, limit=1_000).rows}
        assert expected and {job_id: found[job_id] for job_id in expected} == expected
        assert sum(empty.tally().counts.values()) == sum(full.tally().counts.values())

    def test_it_is_not_overwritten_unasked(self, full: SQLiteBackend, backup_file: Path) -> None:
        """`ConfigError`, and the older one stays as it is; with `overwrite` it goes when the new one is complete."""
        before = backup_file.read_bytes()
        with pytest.raises(ConfigError, match="is there already"):
            back_up(full, backup_file)
        assert backup_file.read_bytes() == before
        full.delete([full.list(Filter(states=("completed",)), limit=1).rows[0].id])
        back_up(full, backup_file, overwrite=True)
        assert backup_file.read_bytes() != before

    def test_only_a_backup_is_overwritten(self, full: SQLiteBackend, tmp_path: Path) -> None:
        """Never the store itself, or anything else that somebody wants to keep; an empty file may be."""
        for body in (b"my thesis\n", b"SQLite format 3\0", archive.START[:-1]):
            place = tmp_path / "other"
            place.write_bytes(body)
            with pytest.raises(ConfigError, match="is no backup"):
                back_up(full, place, overwrite=True)
            assert place.read_bytes() == body
        place.write_bytes(b"")
        back_up(full, place, overwrite=True)

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_it_follows_no_link(self, full: SQLiteBackend, backup_file: Path, overwrite: bool) -> None:
        """A symbolic link, also one that leads nowhere, is refused: somebody else may have put it there."""
        before = backup_file.read_bytes()
        for target in (backup_file, backup_file.parent / "nowhere"):
            link = backup_file.parent / "link"
            link.symlink_to(target)
            with pytest.raises(ConfigError, match="symbolic link"):
                back_up(full, link, overwrite=overwrite)
            assert link.is_symlink()
            link.unlink()
        assert backup_file.read_bytes() == before
        assert not (backup_file.parent / "nowhere").exists()

    def test_what_is_no_file_stays(self, full: SQLiteBackend, tmp_path: Path) -> None:
        """A directory, a device, a pipe."""
        os.mkfifo(tmp_path / "pipe")
        for place in (tmp_path, Path("/dev/full"), tmp_path / "pipe"):
            with pytest.raises(ConfigError):
                back_up(full, place, overwrite=True)

    def test_a_folder_that_is_not_there(self, full: SQLiteBackend, tmp_path: Path) -> None:
        """`BackupError` with what the system says."""
        with pytest.raises(BackupError, match="No such file"):
            back_up(full, tmp_path / "missing" / "shop.jobcard")

    def test_a_full_disk_leaves_no_file(self, full: SQLiteBackend, tmp_path: Path) -> None:
        """No room for all of it: `BackupError`, no file and no part of one, and an older one stays."""
        place = tmp_path / "new" / "shop.jobcard"
        place.parent.mkdir()
        older = place.with_name("older.jobcard")
        back_up(full, older)
        before = older.read_bytes()

        def without_room() -> None:
            def no_more(_: int) -> None:  # not before: what SQLite has beside its file needs room, too
                resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 10, -1))

            for path, overwrite in ((place, False), (older, True)):
                with pytest.raises(BackupError, match="cannot be written"):
                    back_up(full, path, overwrite=overwrite, tell=no_more)

        in_fork(without_room)
        assert [*place.parent.iterdir()] == [older]
        assert older.read_bytes() == before

    def test_a_store_that_fails_leaves_no_file(
        self, full: SQLiteBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever stops a backup, nothing of it is left."""
        place = tmp_path / "new" / "shop.jobcard"
        place.parent.mkdir()
        monkeypatch.setattr(full, "once_keys", lambda **_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            back_up(full, place)
        assert [*place.parent.iterdir()] == []

    def test_one_that_could_not_be_read_again_is_not_kept(
        self, full: SQLiteBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is read whole before it takes its place: a disk may lie, and so may we."""
        monkeypatch.setattr(archive.Writer, "jobs", property(lambda self: 0))
        real = archive.Writer.finish

        def miscounted(self: archive.Writer, unreadable: list[bytes]) -> None:
            self._counts[archive.OnceLine] += 1
            real(self, unreadable)

        monkeypatch.setattr(archive.Writer, "finish", miscounted)
        place = tmp_path / "shop.jobcard"
        with pytest.raises(BackupError, match="does not hold what it says"):
            back_up(full, place)
        assert not place.exists()
