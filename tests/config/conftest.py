"""What tests of the local supervisor share."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def var_dir() -> Iterator[Path]:
    """A data folder that every user of the machine may walk into, like a checkout usually is."""
    folder = Path(tempfile.mkdtemp(prefix="munim-var-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
