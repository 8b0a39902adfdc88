"""``python -m payments.simulator --host 127.0.0.1 --port 8010 --seed 1 --now 2025-04-01T00:00:00Z``."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

from payments.simulator.app import Simulator
from payments.simulator.clock import iso, parse_iso
from payments.simulator.control.accounts import open_account
from payments.simulator.server import Server
from payments.simulator.state import StateFile, StateRefused
from payments.simulator.world import World


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    options = argparse.ArgumentParser(prog="payments.simulator", description=__doc__)
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=8010, help="0 picks a free one")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--state", type=Path, metavar="FILE", help="keep everything there, and go on from it")
    options.add_argument("--moved", nargs=2, default=[], metavar=("OLD", "NEW"), help="address of webhooks kept so far")
    options.add_argument("--now", default="2025-04-01T00:00:00Z", help="where the virtual clock starts")
    options.add_argument("--public-url", default="", help="where browsers find the hosted pages, if elsewhere")
    options.add_argument("--razorpay-key", action="append", default=[], metavar="ID:SECRET")
    options.add_argument("--stripe-key", action="append", default=[], metavar="SECRET")
    return options


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    options = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    sys.setswitchinterval(0.002)
    try:
        state = StateFile(options.state) if options.state else None
        world = World(seed=options.seed, now=parse_iso(options.now), state=state)
    except StateRefused as error:
        print(error, file=sys.stderr)
        return 1
    with world.lock:  # giving it back also sends what a process that was killed had not sent
        open_accounts(world, options)
        if options.moved:
            move_webhooks(world, *options.moved)
    server = Server(options.host, options.port, Simulator(world, options.public_url))
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: threading.Thread(target=server.shutdown).start())
    found = f", {state.entries} entries taken up" if state is not None and state.entries else ""
    print(
        f"gateway simulator on http://{options.host}:{server.port}, clock at {iso(world.clock.now)}{found}", flush=True
    )
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    if state is not None:
        world.lock.close()
        state.close()
    return 0


def open_accounts(world: World, options: argparse.Namespace) -> None:
    """Register the merchant accounts that the command names, unless they are known."""
    for pair in options.razorpay_key:
        key_id, _, secret = pair.partition(":")
        open_account(world, {"provider": "razorpay", "key_id": key_id, "key_secret": secret})
    for secret in options.stripe_key:
        open_account(world, {"provider": "stripe", "key_id": secret, "key_secret": secret})


def move_webhooks(world: World, old: str, new: str) -> None:
    """The merchants' server has another address now."""
    for name in list(world.accounts):
        point = world.accounts[name].endpoint
        if f"{point.url}/".startswith(f"{old.rstrip('/')}/"):
            point.url = new.rstrip("/") + point.url[len(old.rstrip("/")) :]


if __name__ == "__main__":
    raise SystemExit(main())
