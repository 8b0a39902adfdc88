"""Worker processes of the billing run, to be killed by tests.

Started as ``python -m tests.subscriptions.billing_workers``: loads the product once, then forks one worker for each line
``<organisation code> <chunk size>`` on its input. A chunk size of 0 means everything that goes with a run: thresholds, the run
itself, and the drafts whose grace is over; one below that means dunning. Writes ``<pid>`` when the worker exists.
"""

import os
import signal
import sys
import traceback

import django


def work(code: str, chunk_size: int) -> None:
    """Bill (or chase) one organisation, as a process of its own."""
    from billing.models import Organisation
    from subscriptions.services import draft_finalizing, interim
    from subscriptions.services.billing_run import run_billing
    from subscriptions.services.dunning import run_dunning

    try:
        organisation = Organisation.objects.get(code=code)
        if chunk_size < 0:
            run_dunning(organisation=organisation)
        elif chunk_size:
            run_billing(organisation=organisation, chunk_size=chunk_size, connections=2)
        else:
            interim.invoice_passed(organisation=organisation)
            run_billing(organisation=organisation, chunk_size=5)
            draft_finalizing.finalize_due(organisation=organisation)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main() -> None:
    django.setup()
    from subscriptions.services import billing_run, draft_finalizing, dunning, interim  # noqa: F401 - loaded before the fork

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead
    print("ready", flush=True)
    for line in sys.stdin:
        code, chunk_size = line.split()
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            work(code, int(chunk_size))
        print(pid, flush=True)


if __name__ == "__main__":
    main()
