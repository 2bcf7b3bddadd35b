"""Packages of somebody else, which know jobcard only as any user does."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

SAMPLES = Path(__file__).parent


def install(name: str, target: Path) -> Path:
    """Put a sample into a directory for `sys.path`, with what an installer writes beside it; no network, no build tool.

    The directory is what `pip install --no-deps --target` leaves: the package, and its `.dist-info` with name, version,
    extras and entry points.
    """
    project = tomllib.loads((SAMPLES / name / "pyproject.toml").read_text("utf-8"))["project"]
    shutil.copytree(SAMPLES / name / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    info = target / f"{name}-{project['version']}.dist-info"
    info.mkdir()
    metadata = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}"]
    metadata += [f"Provides-Extra: {extra}" for extra in project.get("optional-dependencies", {})]
    (info / "METADATA").write_text("\n".join([*metadata, ""]), "utf-8")
    lines: list[str] = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{entry} = {place}" for entry, place in entries.items()), ""]
    (info / "entry_points.txt").write_text("\n".join(lines), "utf-8")
    (info / "INSTALLER").write_text("tests\n", "utf-8")
    return target
