"""Start the local supervisor the way a user does, and see what it leaves behind."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FROM_OUTSIDE = ("DATABASE_URL", "REDIS_URL", "MUNIM_ENV", "MUNIM_TEST_DB", "DJANGO_SETTINGS_MODULE")


@contextmanager
def supervisor(
    command: str, *, var_dir: Path, ready: str, seconds: float = 300, **environ: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run ``python -m config.local <command>`` until its output matches ``ready``; kill it at the end."""
    env = {name: value for name, value in os.environ.items() if name not in FROM_OUTSIDE}
    log = var_dir / f"{command}.out"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "config.local", command],
            cwd=ROOT,
            env={**env, "MUNIM_VAR_DIR": str(var_dir), **environ},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        deadline = time.monotonic() + seconds
        while not re.search(ready, log.read_text()):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield process, log.read_text()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


Started = tuple[int, str]


def process_table() -> dict[int, tuple[int, str]]:
    """Return parent and start time of every process, by id; zombies do not count."""
    table = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent, *rest = (folder / "stat").read_text().rpartition(")")[2].split()
            if state != "Z":
                table[int(folder.name)] = (int(parent), rest[17])
    return table


def family_of(pid: int) -> set[Started]:
    """Return the process and everything below it, each by id and start time."""
    table = process_table()
    found = {pid} & set(table)
    while more := {child for child, (parent, _) in table.items() if parent in found} - found:
        found |= more
    return {(one, table[one][1]) for one in found}


def nothing_left(family: set[Started], *, seconds: float = 30) -> set[Started]:
    """Wait until none of ``family`` runs; return those that still do."""
    deadline = time.monotonic() + seconds
    while True:
        table = process_table()
        left = {(pid, started) for pid, started in family if table.get(pid, (0, ""))[1] == started}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)
