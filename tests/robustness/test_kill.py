"""A restoration that is killed at random moments and resumed gives the same bits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_twenty_kills() -> None:
    # In a new process, because forks of one that has run threads may hang.
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.robustness.kill", "--kills", "20"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
    assert re.match(r"20 kills, .* all with the same bits", run.stdout.splitlines()[-1])
