"""The warning about files of other distributions."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import ratelimit
from ratelimit import _neighbours


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A copy of what is installed, which can be spoilt."""
    package = Path(ratelimit.__file__).parent
    shutil.copytree(package, tmp_path / "ratelimit")
    information = next(package.parent.glob("ratelimit_rs-*.dist-info"))
    shutil.copytree(information, tmp_path / information.name)
    return tmp_path


def warning(site: Path) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            f"import sys; sys.path.insert(0, {str(site)!r}); import ratelimit; print(ratelimit.__file__)",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert str(site) in done.stdout
    return done.stderr


def distribution(site: Path, name: str, record: str) -> None:
    (site / f"{name}.dist-info").mkdir()
    (site / f"{name}.dist-info" / "RECORD").write_text(record)


def test_alone_there_is_none(site: Path) -> None:
    distribution(site, "ratelimiter-1.2.0", "ratelimiter.py,,\n")
    distribution(site, "django_ratelimit-4.1.0", "django_ratelimit/__init__.py,,\n")
    assert warning(site) == ""


@pytest.mark.parametrize("name", ["ratelimit-2.2.1", "django_ratelimit-3.0.1", "asgi_ratelimit-0.10.0"])
def test_others_are_named(site: Path, name: str) -> None:
    distribution(site, name, "ratelimit/__init__.py,,\n")
    text = warning(site)
    assert "RuntimeWarning" in text and name.rpartition("-")[0].replace("_", "-") in text
    assert "uninstall all of them, then install ratelimit-rs again" in text


def test_egg_info_and_strange_files(site: Path) -> None:
    (site / "ratelimit-2.2.1.egg-info").mkdir()
    (site / "ratelimit-2.2.1.egg-info" / "top_level.txt").write_text("ratelimit\n")
    assert "same folder: ratelimit." in warning(site)
    shutil.rmtree(site / "ratelimit-2.2.1.egg-info")
    (site / "ratelimit" / "backends").mkdir()
    assert "the owner of backends" in warning(site)


def test_our_own_files_are_known() -> None:
    package = Path(ratelimit.__file__).parent
    assert not _neighbours._strangers(str(package))
    assert {file.name for file in package.iterdir() if not file.name.startswith("_native.")} <= _neighbours.OURS
