"""Which Python a new environment is made with."""

import os
import subprocess
from pathlib import Path

import pytest

from config.local import places


def interpreter(folder: Path, name: str, answer: str) -> Path:
    """Something that answers like an interpreter that was measured: its version and how long it took, in microseconds."""
    path = folder / name
    folder.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{answer}'\n" if answer else "#!/bin/sh\nexit 1\n")
    path.chmod(0o755)
    return path


def chosen(*folders: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = ":".join([*map(str, folders), os.environ["PATH"]])
    given = {"PATH": path, **environment}
    return subprocess.run(
        [places.ROOT / "bin" / "munim", "python"], env=given, capture_output=True, text=True, check=False
    )


def test_the_clearly_fastest_build_of_the_first_version_is_taken(tmp_path: Path) -> None:
    interpreter(tmp_path / "a", "python3.11", "3.11 30")
    fast = interpreter(tmp_path / "b", "python3.11", "3.11 10")
    interpreter(tmp_path / "c", "python3.11", "3.11 10")  # no better than the one before it
    interpreter(tmp_path / "a", "python3.12", "3.12 1")  # another version
    interpreter(tmp_path / "d", "python3.11", "")  # cannot make environments

    assert chosen(*(tmp_path / name for name in "dabc")).stdout.strip() == str(fast)


def test_a_named_interpreter_is_taken_whatever_its_speed(tmp_path: Path) -> None:
    interpreter(tmp_path / "a", "python3.11", "3.11 10")
    named = interpreter(tmp_path / "b", "python-of-ours", "3.12 9000")

    assert chosen(tmp_path / "a", PYTHON=str(named)).stdout.strip() == str(named)


@pytest.mark.parametrize("name", ["/nowhere/python3.11", "unsuitable"])
def test_a_named_interpreter_that_does_not_do_is_refused(tmp_path: Path, name: str) -> None:
    interpreter(tmp_path, "unsuitable", "")

    refused = chosen(tmp_path, PYTHON=name)

    assert refused.returncode == 1
    assert "Munim needs Python 3.11 or newer" in refused.stderr
