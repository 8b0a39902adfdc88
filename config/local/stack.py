"""The product's own processes on this machine, and in which order they start."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.local import libraries, places
from config.local.errors import CannotStart
from config.local.processes import Child
from config.local.services import Services

WEB_WORKERS = 2
TASK_PROCESSES = 3  # one more than cores: a clock that waits for the database leaves room to draw letters
HOST = "127.0.0.1"
# Where to look for free ports: far enough apart that two searches never meet.
WEB_PORT, SIMULATOR_PORT, INBOX_PORT, SMTP_PORT = 8000, 8100, 8200, 8300
LAST_ADDRESSES = "addresses.json"
NOT_FOR_OTHERS = ("MUNIM_ENV", "MUNIM_READY_DIR", "PYTHONUNBUFFERED", "CELERY_SKIP_CHECKS")


@dataclass
class Stack:
    """Web, worker, beat, mail catcher and gateway simulator above the services."""

    services: Services
    fresh: bool = False
    env: dict[str, str] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)  # addresses of the start before this one
    ready_dir: Path = field(default_factory=lambda: places.var_dir() / "ready")

    def start(self) -> None:
        """Start everything and return when all of it works."""
        self._choose_addresses()
        if not self.services.is_migrated:
            with self.services.progress.step("migrate"):
                self.manage("migrate", "--no-input", "--verbosity", "0")
                if self.fresh:
                    self.services.keep_pristine()
        with self.services.progress.step("web, worker, beat, mail, gateways"):
            waits = [self._web(), self._worker(), self._beat(), self._mail_catcher()]
            wait = self.services.family.wait_until
            wait(*waits.pop(0), seconds=120)
            waits.append(self._simulator())  # it sends what it had not sent, so web is there first
            for child, is_ready in waits:
                wait(child, is_ready, seconds=120)
        self._remember_addresses()

    @property
    def address_file(self) -> Path:
        """Where manage.py, run by hand, finds what this stack started."""
        return places.var_dir() / "up.env"

    def manage(self, *arguments: str) -> None:
        """Run a management command to its end; raise ``CannotStart`` with its words if it fails."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=places.ROOT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise CannotStart(f"manage.py {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")

    def _choose_addresses(self) -> None:
        self.last = {} if self.fresh else last_addresses()
        web = places.free_port(preferred=int(os.environ.get("MUNIM_PORT") or self.last.get("web", WEB_PORT)))
        simulator = places.free_port(preferred=int(self.last.get("simulator", SIMULATOR_PORT)))
        inbox, smtp = places.free_port(preferred=INBOX_PORT), places.free_port(preferred=SMTP_PORT)
        simulator_url = f"http://{HOST}:{simulator}"
        chosen = {
            "MUNIM_ENV": "local",
            "PUBLIC_URL": f"http://{HOST}:{web}",
            "EMAIL_URL": f"smtp://{HOST}:{smtp}",
            "SMS_URL": f"twilio+http://local:local@{HOST}:{inbox}?from=Munim",
            "MUNIM_INBOX_URL": f"http://{HOST}:{inbox}",
            "MUNIM_SIMULATOR_URL": simulator_url,
            "RAZORPAY_API_BASE": simulator_url,
            "STRIPE_API_BASE": simulator_url,
            "MUNIM_READY_DIR": str(self.ready_dir),
            "PYTHONUNBUFFERED": "1",
            "THROTTLE_READ": "100000/min",  # one application lives a year in minutes
            "THROTTLE_WRITE": "100000/min",
            "THROTTLE_INGEST": "100000/min",
            "CELERY_SKIP_CHECKS": "1",  # the tests run them; worker and beat would load every page and address for them
            "LOG_LEVEL": "WARNING",  # a line for each request and task of a year costs more than the work
        }
        given = {name: os.environ[name] for name in chosen if os.environ.get(name)}
        pdf = libraries.environment(self.services.progress)
        self.env = {**os.environ, **chosen, **given, **self.services.env, **pdf}
        self.ports = {"web": web, "smtp": smtp, "inbox": inbox, "simulator": simulator}
        (places.var_dir() / "static").mkdir(exist_ok=True)
        self.ready_dir.mkdir(parents=True, exist_ok=True)
        for old in self.ready_dir.iterdir():
            old.unlink()
        told = {**self.services.env, **{name: self.env[name] for name in chosen if name not in NOT_FOR_OTHERS}}
        self.address_file.write_text("".join(f"{name}={value}\n" for name, value in told.items()))
        self.services.leftovers.append(self.address_file)

    def _remember_addresses(self) -> None:
        """Keep what letters and gateways were told, so that the next start answers there again."""
        kept = {"web": self.ports["web"], "simulator": self.ports["simulator"], "PUBLIC_URL": self.env["PUBLIC_URL"]}
        (places.var_dir() / LAST_ADDRESSES).write_text(json.dumps(kept))

    def _spawn(self, name: str, *command: str | Path, death_signal: int = signal.SIGTERM) -> Child:
        return self.services.family.spawn(
            name, [sys.executable, "-m", *command], env=self.env, death_signal=death_signal
        )

    def _simulator(self) -> tuple[Child, Callable[[], bool]]:
        port = str(self.ports["simulator"])
        seed = os.environ.get("MUNIM_SIMULATOR_SEED", "1")
        state = places.var_dir() / "simulator"
        if self.fresh:
            shutil.rmtree(state, ignore_errors=True)
        moved = ("--moved", self.last["PUBLIC_URL"], self.env["PUBLIC_URL"]) if "PUBLIC_URL" in self.last else ()
        child = self._spawn(
            "simulator",
            *("payments.simulator", "--host", HOST, "--port", port, "--seed", seed),
            *("--state", state / "state.journal", *moved),
        )
        return child, lambda: answers(f"http://{HOST}:{port}/healthz")

    def _mail_catcher(self) -> tuple[Child, Callable[[], bool]]:
        smtp, inbox = str(self.ports["smtp"]), str(self.ports["inbox"])
        spool = places.var_dir() / "mail"
        if self.fresh:
            shutil.rmtree(spool, ignore_errors=True)
        child = self._spawn(
            "mail",
            *("config.local.mailcatcher", "--spool", spool),
            *("--smtp-port", smtp, "--web-port", inbox),
        )
        return child, lambda: answers(f"http://{HOST}:{inbox}/healthz")

    def _web(self) -> tuple[Child, Callable[[], bool]]:
        port = str(self.ports["web"])
        child = self._spawn(
            "web",
            *("granian", "--interface", "wsgi", "--host", HOST, "--port", port, "--no-ws"),
            *("--workers", str(WEB_WORKERS), "--blocking-threads", "1", "--log-level", "warning"),
            *("--respawn-failed-workers", "--workers-kill-timeout", "10", "config.wsgi:application"),
        )
        return child, lambda: answers(f"http://{HOST}:{port}/healthz")

    def _worker(self) -> tuple[Child, Callable[[], bool]]:
        child = self._spawn(
            "worker",
            *("celery", "-A", "config.celery", "worker", "--pool", "prefork"),
            *("--concurrency", str(TASK_PROCESSES), "--queues", "default,mail,waited_for"),
            *("--without-gossip", "--without-mingle", "--loglevel", "INFO"),
            death_signal=signal.SIGKILL,  # its broker dies too, and a warm shutdown would wait for it
        )
        return child, (self.ready_dir / "worker").exists

    def _beat(self) -> tuple[Child, Callable[[], bool]]:
        child = self._spawn("beat", "celery", "-A", "config.celery", "beat", "--loglevel", "INFO", "--pidfile=")
        return child, (self.ready_dir / "beat").exists


def last_addresses() -> dict[str, Any]:
    """Return what the last start of this checkout used; empty when there was none."""
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads((places.var_dir() / LAST_ADDRESSES).read_text()))
    return {}


def answers(url: str) -> bool:
    """Tell whether a GET of ``url`` answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own address
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        time.sleep(0.1)
        return False
