"""The package imports without torch, has one version, and has all of its public names."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from tests.conftest import LONGEST

import dipfast

ROOT = Path(__file__).parents[1]


def python(code: str) -> int:
    return subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_import_does_not_import_torch() -> None:
    assert python("import sys, dipfast; sys.exit('torch' in sys.modules)") == 0


def test_every_public_name_is_there() -> None:
    for name in dipfast.__all__:
        assert getattr(dipfast, name) is not None
        assert name in dir(dipfast)
    with pytest.raises(AttributeError, match="nothing"):
        dipfast.nothing  # noqa: B018


def test_one_version() -> None:
    assert dipfast.__version__ == metadata.version("dipfast")
    assert f'version = "{dipfast.__version__}"' in (ROOT / "Cargo.toml").read_text()
    assert f"## {dipfast.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_files_that_begin_first_are_there() -> None:
    """A name that is no longer that of a file would change the order without a word."""
    assert [name for name in LONGEST if not (ROOT / name).is_file()] == []
