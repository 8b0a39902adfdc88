"""What a plan brings in: its subscribers and their monthly recurring revenue, by version and currency. Reads only."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Count
from moneyed import Money

from billing import money
from billing.errors import DomainError
from billing.models import Organisation
from subscriptions import recurring
from subscriptions.models import Subscription
from subscriptions.selectors import price_books
from subscriptions.services.plan_migrations import RUNNING


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFigures:
    """Subscriptions of one version in one currency: all that have not ended, those that pay, and their MRR."""

    version_id: uuid.UUID
    currency: str
    running: int
    paying: int
    mrr: Money


def figures(*, organisation: Organisation, version_ids: Sequence[uuid.UUID]) -> list[VersionFigures]:
    """Figures of versions, in one query: equal subscriptions are counted together. What has no price counts without MRR."""
    found = Subscription.objects.of(organisation).filter(plan_version__in=version_ids, status__in=RUNNING)
    groups = list(
        found.order_by().values("plan_version_id", "currency", "quantity", "add_ons", "status").annotate(n=Count("id"))
    )
    books = price_books(organisation, version_ids)
    totals: dict[tuple[uuid.UUID, str], tuple[int, int, Money]] = {}
    for group in groups:
        key = group["plan_version_id"], group["currency"]
        running, paying, mrr = totals.get(key, (0, 0, money.zero(key[1])))
        counts = group["status"] in recurring.COUNTING_STATUSES
        try:
            book = books.get(*key, group["add_ons"])
            each = recurring.mrr(book=book, quantity=group["quantity"], status=group["status"])
        except DomainError:
            each = money.zero(key[1])
        totals[key] = running + group["n"], paying + (group["n"] if counts else 0), mrr + each * group["n"]
    return [
        VersionFigures(version_id=version, currency=currency, running=running, paying=paying, mrr=mrr)
        for (version, currency), (running, paying, mrr) in totals.items()
    ]
