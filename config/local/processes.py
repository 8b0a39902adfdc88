"""Children of the supervisor: started in the foreground, stopped in order, never left behind."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from config.local.errors import CannotStart
from config.local.places import ROOT, RunAs

PR_SET_PDEATHSIG = 1
LOG_TAIL_LINES = 25


def die_with_parent(death_signal: int) -> Callable[[], None]:
    """Return what a new child runs first: ask the kernel to signal it when the supervisor dies.

    Only Linux has this. Elsewhere a hard kill of the supervisor leaves its children to the next start.
    """
    parent = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def ask() -> None:
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
            if os.getppid() != parent:  # the supervisor died before we asked
                os._exit(1)

    return ask


@dataclass
class Child:
    """One running process and how it likes to be stopped."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    stop_signal: int = signal.SIGTERM
    patience_seconds: float = 15.0

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> None:
        """Ask it to end; after its patience, end it with everything it started."""
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(self.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(self.patience_seconds)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # its session: workers that outlived it
        self.process.wait()

    def tail(self) -> str:
        """Return the last lines of its log."""
        if not self.log.is_file():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])


@dataclass
class Family:
    """All children of this supervisor, in the order they were started."""

    log_dir: Path
    children: list[Child] = field(default_factory=list)

    def spawn(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        run_as: RunAs | None = None,
        death_signal: int = signal.SIGTERM,
        stop_signal: int = signal.SIGTERM,
        cwd: Path = ROOT,
    ) -> Child:
        """Start ``command`` in a session of its own, its output in ``<name>.log``."""
        self.log_dir.mkdir(parents=True, exist_ok=True)
        log = self.log_dir / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env if env is not None else os.environ),
                cwd=cwd,
                start_new_session=True,
                preexec_fn=die_with_parent(death_signal),  # noqa: PLW1509 - we have one thread
                **(run_as.popen_arguments() if run_as else {}),
            )
        child = Child(name=name, process=process, log=log, stop_signal=stop_signal)
        self.children.append(child)
        return child

    def wait_until(self, child: Child, is_ready: Callable[[], bool], *, seconds: float = 60.0) -> None:
        """Wait until ``is_ready``; raise ``CannotStart`` with the child's log if it ends or stays silent."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            if not child.is_running:
                code = child.process.returncode
                raise CannotStart(f"{child.name} ended with code {code}. Its log ({child.log}):\n{child.tail()}")
            if time.monotonic() > deadline:
                raise CannotStart(
                    f"{child.name} was not ready after {seconds:.0f} s. Its log ({child.log}):\n{child.tail()}"
                )
            time.sleep(0.03)

    def first_dead(self) -> Child | None:
        """Return a child that ended although nobody asked it to."""
        return next((child for child in self.children if not child.is_running), None)

    def stop(self) -> None:
        """Stop all, last started first."""
        while self.children:
            self.children.pop().stop()
