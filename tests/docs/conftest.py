"""The tutorial's runs, made once for all pages that show them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.examples import ROOT, tutorial_runs


@pytest.fixture(scope="session")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tutorial's `runs`; each output, with the exit code below it, is in `<number>.txt`."""
    folder = tmp_path_factory.mktemp("tutorial")
    for number, (command, _, _) in enumerate(tutorial_runs()):
        argv = [sys.executable, "-m", "midsession", *command.split(), "--runs", str(folder / "runs")]
        done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
        (folder / f"{number}.txt").write_text(f"{done.stdout}{done.stderr}{done.returncode}")
    return folder
