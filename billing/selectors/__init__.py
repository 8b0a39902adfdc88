"""Reads that other apps need: who lives on real time, and the rooms beside (access, ledger, usage)."""

from collections.abc import Iterator

from billing.models import Organisation


def organisations_on_real_time() -> Iterator[Organisation]:
    """Organisations whose time is real time: what beat's tasks work for. Test clocks drive the others."""
    return Organisation.objects.filter(test_clock__isnull=True).order_by("pk").iterator()
