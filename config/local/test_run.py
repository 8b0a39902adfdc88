"""How the tests run: most of them on all cores; those that start processes of their own afterwards, file beside file."""

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from config.local import named
from config.local.places import ROOT
from config.local.postgres import DATABASE
from config.local.processes import die_with_parent
from config.local.services import Services

NO_TESTS_COLLECTED = 5
PARALLEL = ["-n", "2", "--dist", "worksteal", "-m", "not serial"]
AFTERWARDS = ["-n", "2", "--dist", "loadfile", "-m", "serial"]
OUTCOMES = ("failed", "error", "passed", "skipped", "deselected", "xfailed", "xpassed", "warning")


def template(services: Services, *, env: dict[str, str]) -> dict[str, str]:
    """Migrate the private database once, so that each test process copies it; a named one is not touched."""
    if named.address("DATABASE_URL"):
        return {}
    with services.progress.step("migrate"):
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--no-input", "--verbosity", "0"],
            cwd=ROOT,
            env=env | {"MUNIM_ENV": "test"},
            stdin=subprocess.DEVNULL,
            check=True,
        )
    return {"MUNIM_TEST_TEMPLATE": DATABASE}


def run(arguments: list[str], *, env: dict[str, str]) -> int:
    """Run the whole suite in two passes, or exactly what ``arguments`` ask for in one; return the exit code."""
    if arguments:
        return pytest(arguments, env=env)[0]
    begun = time.monotonic()
    first, counts = pytest(PARALLEL, env=env)
    second, more = pytest([*AFTERWARDS, *files_with("mark.serial")], env=env)
    print(closing_line(counts + more, seconds=time.monotonic() - begun), flush=True)
    codes = [code for code in (first, second) if code != NO_TESTS_COLLECTED]
    return max(codes, default=NO_TESTS_COLLECTED)


def files_with(word: str) -> list[str]:
    """Return the test files that have ``word`` in them: to collect all the others once more takes a while."""
    return [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if word in path.read_text()]


def pytest(arguments: list[str], *, env: dict[str, str]) -> tuple[int, Counter[str]]:
    """Run pytest with its output passed on; return its exit code and what its closing line counts."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.txt"
        with (
            subprocess.Popen(
                [sys.executable, "-m", "pytest", *arguments],
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                errors="replace",
                preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - we have one thread
            ) as process,
            report.open("w") as copy,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                sys.stdout.write(line)
                sys.stdout.flush()
                copy.write(line)
        return process.returncode, outcomes(report.read_text())


def outcomes(output: str) -> Counter[str]:
    """Read pytest's closing line: how many tests ended how."""
    counts: Counter[str] = Counter()
    closing = [line for line in output.splitlines() if re.search(r" in \d+(\.\d+)?s\b", line)]
    for number, word in re.findall(r"(\d+) ([a-z]+)", closing[-1] if closing else ""):
        name = word.removesuffix("s") if word not in OUTCOMES else word
        if name in OUTCOMES and name != "deselected":
            counts[name] += int(number)
    return counts


def closing_line(counts: Counter[str], *, seconds: float) -> str:
    """Write the sum of both passes the way pytest writes its own."""
    plural = {"error", "warning"}
    told = [
        f"{counts[name]} {name}{'s' if name in plural and counts[name] != 1 else ''}"
        for name in OUTCOMES
        if counts[name]
    ]
    return f" {', '.join(told) or 'no tests ran'} in {seconds:.2f}s ".center(80, "=")
