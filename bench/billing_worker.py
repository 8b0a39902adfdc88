"""A worker of the billing run for the measurements: bills each organisation named on its input and says how much.

The first one warms it up: modules, connections, the broker.
"""

import os
import sys

import django


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from billing.models import Organisation
    from subscriptions.services.billing_run import run_billing

    for line in sys.stdin:
        print(run_billing(organisation=Organisation.objects.get(code=line.strip())).invoices, flush=True)


if __name__ == "__main__":
    main()
