"""A real MySQL out of Debian's packages, unpacked in a cache folder; nothing is installed on the system.

    python -m helpers.mysql_packages      fetch it now, so that no test has to wait for it

Only Debian sid has MySQL, and its programs want a newer libc than most machines have: the packages come with all they
need and the server is started by the loader among them. Fetching is tried twice; then there is no MySQL here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "mysql-server-core"
FETCH_SECONDS = 240
_NOT_NEEDED = ("perl", "libperl", "libc-gconv", "gcc-")
_JUNK = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian")


class CannotFetchError(RuntimeError):
    """MySQL cannot be had here."""


def program() -> list[str]:
    """The beginning of a command line that runs `mysqld`: one that is installed, or the one in the cache."""
    if (own := shutil.which("mysqld")) and "MariaDB" not in _said([own, "--version"]):
        return [own, "--no-defaults"]
    root = _root()
    libraries = root / f"usr/lib/{platform.machine()}-linux-gnu"
    share = root / "usr/share/mysql"
    [loader, *_] = libraries.glob("ld-linux-*.so.*")
    return [
        str(loader), "--library-path", str(libraries), str(root / "usr/sbin/mysqld"), "--no-defaults",
        f"--lc-messages-dir={share}", f"--character-sets-dir={share}/charsets",
        f"--plugin-dir={root}/usr/lib/mysql/plugin",
    ]  # fmt: skip


def cache_folder() -> Path:
    """Where fetched servers are kept between test runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jobcard-tests"


def _root() -> Path:
    root = cache_folder() / "mysql"
    with _locked(cache_folder() / "mysql.lock"):
        for last_try in (False, True):
            if (root / "usr/sbin/mysqld").exists():
                return root
            try:
                _fetch(root)
            except (OSError, subprocess.SubprocessError, CannotFetchError) as error:
                if last_try:
                    raise CannotFetchError(
                        f"MySQL could not be fetched from Debian sid: {_first_line(error)}"
                    ) from error
    return root


def _fetch(root: Path) -> None:
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise CannotFetchError("this is no Debian: there is no apt-get")
    with tempfile.TemporaryDirectory(dir=root.parent, prefix="mysql-") as scratch:
        folder = Path(scratch)
        apt = {**os.environ, "APT_CONFIG": str(_apt_of_its_own(folder)), "LC_ALL": "C.UTF-8"}
        _run(["apt-get", "-qq", "update"], apt)
        _run(["apt-get", "-qq", "-y", "--download-only", "install", PACKAGE], apt)
        unpacked = folder / "root"
        unpacked.mkdir()
        for package in sorted((folder / "cache/archives").glob("*.deb")):
            if not package.name.startswith(_NOT_NEEDED):
                _run(["dpkg", "-x", str(package), str(unpacked)], apt)
        for junk in (*_JUNK, f"usr/lib/{platform.machine()}-linux-gnu/gconv"):
            shutil.rmtree(unpacked / junk, ignore_errors=True)
        unpacked.chmod(0o755)
        shutil.rmtree(root, ignore_errors=True)
        unpacked.rename(root)


def _apt_of_its_own(folder: Path) -> Path:
    """An apt that knows sid and nothing of this machine: no package counts as installed, no lock is taken."""
    for name in ("lists/partial", "cache/archives/partial", "parts", "state"):
        (folder / name).mkdir(parents=True)
    (folder / "state/status").touch()
    known = _said(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]).split()
    mirror = next((uri for uri in known if uri.rstrip("/").endswith("/debian")), "http://deb.debian.org/debian")
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (folder / "sources.list").write_text(f"deb [signed-by={keys}] {mirror} sid main\n")
    config = folder / "apt.conf"
    config.write_text(
        f"""
        Dir::State "{folder}/state"; Dir::State::status "{folder}/state/status"; Dir::State::lists "{folder}/lists";
        Dir::Cache "{folder}/cache"; Dir::Etc::sourcelist "{folder}/sources.list";
        Dir::Etc::sourceparts "{folder}/parts"; Dir::Etc::preferencesparts "{folder}/parts";
        Dir::Etc::preferences "/dev/null"; APT::Sandbox::User "root"; Debug::NoLocking "true";
        Acquire::Languages "none"; Acquire::Retries "3"; APT::Install-Recommends "false";
        """
    )
    return config


def _run(command: list[str], environment: dict[str, str]) -> None:
    subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=FETCH_SECONDS, check=True
    )


def _said(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    except OSError:
        return ""


def _first_line(error: BaseException) -> str:
    said = getattr(error, "stderr", None)
    text = said.decode(errors="replace") if isinstance(said, bytes) and said.strip() else str(error)
    return text.strip().splitlines()[0][:300]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        print(_said([*program(), "--version"]).strip())
    except CannotFetchError as problem:
        print(f"WARNING: {problem}; nothing is tested on MySQL", file=sys.stderr)
