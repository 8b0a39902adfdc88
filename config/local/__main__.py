"""``python -m config.local up | demo | test | services | run``: the commands behind the Makefile."""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from types import FrameType

from config.local import libraries, named, places, test_run
from config.local.errors import CannotStart
from config.local.processes import Family, die_with_parent
from config.local.progress import Progress
from config.local.services import Services, only_one
from config.local.stack import Stack


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options, rest = parser().parse_known_args(given)
    passes_on = options.command in (run_tests, run_program)
    options.rest = given[1:] if passes_on else []
    if rest and not passes_on:
        parser().error(f"unrecognized arguments: {' '.join(rest)}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        return int(options.command(options))
    except CannotStart as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Treat a polite kill like Ctrl-C: stop the children, then end."""
    raise KeyboardInterrupt


def parser() -> argparse.ArgumentParser:
    """Describe the commands."""
    root = argparse.ArgumentParser(prog="munim", description=__doc__)
    commands = root.add_subparsers(required=True, metavar="command")
    add = commands.add_parser
    up = add("up", help="serve this checkout's data until Ctrl-C")
    up.set_defaults(command=serve_existing)
    demo = add("demo", help="start from nothing, live a year, then serve it until Ctrl-C")
    demo.add_argument("--scale", type=int, default=1, help="how many customers: 1 is a small year")
    demo.add_argument("--once", action="store_true", help="stop after the year instead of serving")
    demo.add_argument("--days", type=int, default=365, help="how many days to live")
    demo.add_argument("--export-ledger", metavar="FOLDER", help="write each organisation's ledger there, as beancount")
    demo.set_defaults(command=serve_demo)
    test = add("test", help="run pytest with its arguments against a private database and broker", add_help=False)
    test.set_defaults(command=run_tests)
    services = add("services", help="only database and broker, addresses in var/services.env")
    services.set_defaults(command=serve_services)
    run = add("run", help="run a Python program with a private database and broker", add_help=False)
    run.set_defaults(command=run_program)
    return root


def new_services(mode: str) -> Services:
    """Prepare the services of ``mode``; nothing is started yet."""
    return Services(mode=mode, family=Family(log_dir=places.var_dir() / "log" / mode), progress=Progress())


def serve_existing(_options: argparse.Namespace) -> int:
    """Serve what is in the database."""
    with only_one("local"):
        services = new_services("up")
        try:
            services.start()
            stack = Stack(services)
            stack.start()
            return serve(stack)
        finally:
            shut_down(services)


def serve_demo(options: argparse.Namespace) -> int:
    """Live a year in a fresh database; keep serving it unless told to do it once."""
    with only_one("local"):
        services = new_services("demo")
        try:
            services.start(fresh=True)
            refuse_used_database(services)
            stack = Stack(services, fresh=True)
            stack.start()
            year = ["manage.py", "demo_year", "--scale", str(options.scale), "--days", str(options.days)]
            if options.export_ledger:
                year += ["--export-ledger", options.export_ledger]
            code = call(year, env=stack.env)
            if options.once or code != 0:
                return code
            return serve(stack)
        finally:
            shut_down(services)


def refuse_used_database(services: Services) -> None:
    """Refuse to live a year in a database that ``DATABASE_URL`` names and that already has tables."""
    if not named.address("DATABASE_URL"):
        return
    import psycopg  # the only moment the supervisor itself talks to a database

    query = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
    with psycopg.connect(services.env["DATABASE_URL"]) as connection:
        row = connection.execute(query).fetchone()
    if row and row[0]:
        raise CannotStart(
            f"The database named by DATABASE_URL has {row[0]} tables. The demo starts from nothing: "
            "name an empty database, or unset DATABASE_URL to use a private one."
        )


def run_tests(options: argparse.Namespace) -> int:
    """Run pytest; its exit code is ours."""
    services = new_services("test")
    try:
        services.start()
        env = {**os.environ, **services.env, **libraries.environment(services.progress)}
        return test_run.run(options.rest, env=env | test_run.template(services, env=env))
    finally:
        services.stop()


def serve_services(_options: argparse.Namespace) -> int:
    """Keep database and broker for developers who run pytest and manage.py by hand."""
    file = places.var_dir() / "services.env"
    with only_one("services"):
        services = new_services("test")
        try:
            services.start()
            file.write_text("".join(f"{name}={value}\n" for name, value in services.env.items()))
            for name, value in services.env.items():
                print(f"export {name}='{value}'", flush=True)
            return watch(services)
        finally:
            file.unlink(missing_ok=True)
            services.stop()


def run_program(options: argparse.Namespace) -> int:
    """Run one program of this checkout, for example the benchmark or a shell."""
    services = new_services("test")
    try:
        services.start()
        pdf = libraries.environment(services.progress)
        return call(options.rest, env={**os.environ, **services.env, **pdf})
    finally:
        services.stop()


def call(command: list[str], *, env: dict[str, str]) -> int:
    """Run a Python program in the foreground and return its exit code."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=places.ROOT,
        env=env,
        check=False,
        preexec_fn=die_with_parent(signal.SIGTERM),
    ).returncode


def serve(stack: Stack) -> int:
    """Tell where everything is and stay until Ctrl-C or until a process dies."""
    say = stack.services.progress.say
    web = stack.env["PUBLIC_URL"]
    say(f"\nMunim is up after {stack.services.progress.elapsed():.0f} s")
    say(f"  console     {web}/console/")
    say(f"  API         {web}/api/docs/")
    say(f"  mail        {stack.env['MUNIM_INBOX_URL']}/")
    say(f"  gateways    {stack.env['MUNIM_SIMULATOR_URL']}/")
    say(f"  logs        {stack.services.family.log_dir}")
    say("Ctrl-C stops everything.")
    return watch(stack.services)


def watch(services: Services) -> int:
    """Wait for Ctrl-C, which is a good end; a child that ends by itself ends everything."""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            stop_if_one_died(services)
            time.sleep(0.5)
    return 0


def stop_if_one_died(services: Services) -> None:
    """Raise ``CannotStart`` with the log of a child that nobody asked to end."""
    dead = services.family.first_dead()
    if dead is not None:
        raise CannotStart(
            f"{dead.name} ended with code {dead.process.returncode}. Its log ({dead.log}):\n{dead.tail()}"
        )


def shut_down(services: Services) -> None:
    """Stop everything and say so."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # already stopping; each child has seconds, then it is killed
    with services.progress.step("stop"):
        services.stop()


if __name__ == "__main__":
    sys.exit(main())
