"""A worker of the billing run for the measurements: says that it is ready, bills the organisation named, says how much."""

import os
import sys

import django


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from django.db import connection

    from billing.models import Organisation
    from subscriptions.services.billing_run import run_billing

    connection.ensure_connection()
    print("ready", flush=True)
    code = sys.stdin.readline().strip()
    print(run_billing(organisation=Organisation.objects.get(code=code)).invoices, flush=True)


if __name__ == "__main__":
    main()
