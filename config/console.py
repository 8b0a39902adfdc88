"""How the finance console looks and what stands in its side navigation.

``UNFOLD`` is the theme's setting. The navigation is built for each request: a page is listed only for a person who
may open it, and groups without pages are left out.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse

PER_KIND = 6  # results of the search box, of each kind of row


@dataclass(frozen=True)
class Page:
    """One entry: the list of a model, or a page with an address of its own that needs ``permission``."""

    title: str
    icon: str
    model: str = ""
    url: str = ""
    permission: str = ""
    hint: str = ""

    def address(self) -> str:
        """Where it is; empty while nothing serves it."""
        try:
            return reverse(self.url or f"admin:{self.model.replace('.', '_')}_changelist")
        except NoReverseMatch:
            return ""

    def open_to(self, request: HttpRequest) -> bool:
        """Whether the signed-in person may see it."""
        from django.apps import apps

        from billing.admin.base import site
        from billing.selectors import access

        if self.permission:
            return bool(access.organisations_with(request.user, self.permission))
        model = apps.get_model(self.model)
        return site.is_registered(model) and site.get_model_admin(model).has_view_permission(request)


GROUPS: dict[str, list[Page]] = {
    "Overview": [
        Page("Dashboard", "monitoring", url="admin:analytics_dashboard", permission="analytics.view",
             hint="Recurring revenue, collection and success rates"),
        Page("Services", "donut_small", url="admin:analytics_services", permission="analytics.view",
             hint="Revenue, cost and margin by service"),
        Page("Today", "today", url="admin:payments_today", permission="reconciliation.view",
             hint="What is open between gateway, books and bank"),
        Page("MRR movements", "trending_up", model="analytics.mrrmovement", hint="Every change of recurring revenue"),
    ],
    "Customers": [
        Page("Customers", "group", model="billing.customer", hint="Who owes and pays"),
        Page("Beneficiaries", "diversity_3", model="billing.beneficiary", hint="Whom customers buy for"),
        Page("Usage", "speed", model="billing.usageevent", hint="What was measured"),
        Page("Corrections", "edit_note", model="billing.usagerevision", hint="Measurements that were corrected or voided"),
        Page("Parked usage", "hourglass_empty", model="billing.parkedusage", hint="Events that wait for what they name"),
        Page("Usage files", "upload_file", model="billing.usageimport", hint="CSV files, and how far they are read"),
        Page("Meters", "straighten", model="billing.meter", hint="What usage is counted by"),
        Page("Usage policy", "policy", url="admin:billing_usage_policy", permission="usage.view",
             hint="What becomes of usage that is late, unknown or old"),
    ],
    "Subscriptions": [
        Page("Subscriptions", "autorenew", model="subscriptions.subscription", hint="Who is subscribed to what, and until when"),
        Page("Plans", "sell", model="subscriptions.plan", hint="Prices, versions, add-ons"),
        Page("Plan migrations", "move_down", model="subscriptions.planmigration", hint="Subscribers moved to other prices"),
        Page("Price experiments", "science", model="subscriptions.experiment", hint="Which price sells, said honestly"),
        Page("Features", "toggle_on", model="subscriptions.feature", hint="What plans give, and to whom more"),
        Page("Features by plan", "grid_on", url="admin:subscriptions_feature_matrix", permission="entitlement.view",
             hint="Which plan gives how much of what"),
        Page("Feature exceptions", "card_giftcard", model="subscriptions.entitlementgrant", hint="Overrides and grants, with reasons"),
        Page("Limit alerts", "notifications", model="subscriptions.entitlementalert", hint="Who reached 75, 90 or 100 % of a limit"),
        Page("Coupons", "percent_discount", model="subscriptions.coupon", hint="What is given, how often, and what it cost"),
        Page("Promotion codes", "confirmation_number", model="subscriptions.promotioncode", hint="Words that give a coupon"),
        Page("Coupons in hand", "redeem", model="subscriptions.appliedcoupon", hint="Who has which, and what is left of it"),
        Page("Billing runs", "receipt_long", model="subscriptions.billingrun", hint="What was billed when, and what was set aside"),
        Page("Billing cycles", "event_repeat", model="subscriptions.billingcycle", hint="Every period that was billed, or failed and why"),
        Page("Dunning board", "view_kanban", url="admin:subscriptions_dunning_board", permission="dunning.view",
             hint="Who is reminded, how far it has gone, and what comes next"),
        Page("Dunning cases", "notification_important", model="subscriptions.dunningcase", hint="Every debt that was ever chased"),
        Page("Dunning pauses", "pause_circle", model="subscriptions.dunningpause", hint="Who is left alone until when"),
        Page("Dunning policies", "rule", model="subscriptions.dunningpolicy", hint="Which step comes after how many days"),
    ],
    "Invoices": [
        Page("Invoices", "description", model="invoices.invoice", hint="What is claimed, paid and due"),
        Page("Credit notes", "remove_circle", model="invoices.creditnote", hint="Reductions of invoices"),
        Page("Installment plans", "event_repeat", model="invoices.installmentplan", hint="Amounts paid in parts"),
        Page("Tax rates", "percent", model="invoices.taxrate", hint="Rates and the days they hold"),
        Page("Number series", "tag", model="invoices.numberseries", hint="Where numbering stands"),
        Page("Mail", "mail", model="invoices.mail", hint="Letters due, sent and failed"),
        Page("Texts", "sms", model="invoices.textmessage", hint="Text messages due, sent and failed"),
        Page("Numbers without texts", "speaker_notes_off", model="invoices.textoptout", hint="Who wants no text messages"),
    ],
    "Payments": [
        Page("Payments", "payments", model="payments.payment", hint="What is collected, with every attempt"),
        Page("Payment methods", "credit_card", model="payments.paymentmethod", hint="Cards, UPI and mandates, masked"),
        Page("Refunds", "undo", model="payments.refund", hint="Money on its way back"),
        Page("Disputes", "gavel", model="payments.dispute", hint="Charges that payers contest"),
        Page("Gateway accounts", "account_balance_wallet", model="payments.gatewayaccount", hint="Accounts at gateways, and their secrets"),
        Page("Inbound webhooks", "move_to_inbox", model="payments.inboundwebhook", hint="What gateways told us, and dead letters"),
    ],
    "Reconciliation": [
        Page("Exceptions", "report", model="payments.reconciliationexception", hint="What does not match, and the next step"),
        Page("Settlements", "account_balance", model="payments.settlement", hint="Payouts, from gross to net"),
        Page("Settlement lines", "list", model="payments.settlementline", hint="Rows of the gateways' reports"),
        Page("Bank lines", "toc", model="payments.bankline", hint="Rows of the bank's statements"),
        Page("Statements", "upload_file", model="payments.statementimport", hint="Files of the bank, and their import"),
        Page("Bank accounts", "savings", model="payments.bankaccount", hint="Our accounts at banks"),
    ],
    "Ledger": [
        Page("Accounts", "book", model="billing.ledgeraccount", hint="The chart of accounts"),
        Page("Journal", "menu_book", model="billing.journalentry", hint="Every balanced movement"),
        Page("Trial balance", "balance", url="admin:billing_ledgeraccount_trial_balance", permission="ledger.view",
             hint="Debits equal credits"),
    ],
    "Platform": [
        Page("Organisations", "domain", model="billing.organisation", hint="Tenants and their settings"),
        Page("Members", "badge", model="billing.membership", hint="Who may do what"),
        Page("API keys", "key", model="billing.apikey", hint="Keys of applications and their scopes"),
        Page("Events", "bolt", model="billing.event", hint="Facts, in order"),
        Page("Dead letters", "mark_email_unread", model="billing.eventhandling", hint="Events that a handler could not take"),
        Page("Webhook endpoints", "webhook", model="billing.webhookendpoint", hint="Where applications want their events"),
        Page("Webhook deliveries", "outbox", model="billing.webhookdelivery", hint="What was delivered, and dead ones"),
        Page("Test clocks", "schedule", model="billing.testclock", hint="Time that can be turned"),
        Page("Audit trail", "history", model="billing.auditrecord", hint="Who did what, when and why"),
        Page("Schedule", "event", model="django_celery_beat.periodictask", hint="When recurring work runs"),
        Page("Failed tasks", "sms_failed", model="django_celery_results.taskresult", hint="Background work that failed this week"),
    ],
}  # fmt: skip


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The groups and pages that the signed-in person may open; the one that is open now is marked."""
    groups = [
        (title, [page for page in pages if page.address() and page.open_to(request)]) for title, pages in GROUPS.items()
    ]
    found = place(request.path)
    here = found[1].address() if found else ""
    return [
        {"title": title, "collapsible": n > 0, "items": [_item(page, here) for page in pages]}
        for n, (title, pages) in enumerate(groups)
        if pages
    ]


def place(path: str) -> tuple[str, Page] | None:
    """The page that the address ``path`` belongs to, and its group: the one with the longest address that begins it."""
    fits = [
        (group, page) for group, pages in GROUPS.items() for page in pages
        if page.address() and path.startswith(page.address())
    ]  # fmt: skip
    return max(fits, key=lambda found: len(found[1].address()), default=None)


def _all(groups: Iterable[tuple[str, list[Page]]]) -> Iterator[Page]:
    return (page for _, pages in groups for page in pages)


def _item(page: Page, here: str) -> dict[str, Any]:
    address = page.address()
    return {"title": page.title, "icon": page.icon, "link": address, "hint": page.hint, "active": address == here}


def search(request: HttpRequest, term: str) -> list[Any]:
    """Rows that the search box finds: what each page of the person's navigation finds, a few of each kind."""
    from django.apps import apps
    from unfold.dataclasses import SearchResult

    from billing.admin.base import TenantAdmin, path_to, site

    found = []
    for page in _all(GROUPS.items()):
        if not page.model or not page.address() or not page.open_to(request):
            continue
        kind = site.get_model_admin(apps.get_model(page.model))
        if not kind.get_search_fields(request):
            continue
        rows, _ = kind.get_search_results(request, kind.get_queryset(request), term)
        found += [
            SearchResult(
                title=kind.called(row) if isinstance(kind, TenantAdmin) else str(row),
                description=page.title,
                link=path_to(row),
                icon=page.icon,
            )
            for row in rows[:PER_KIND]
        ]
    return found


TEAL = {
    "50": "#f0fdfa",
    "100": "#ccfbf1",
    "200": "#99f6e4",
    "300": "#5eead4",
    "400": "#2dd4bf",
    "500": "#14b8a6",
    "600": "#0f766e",
    "700": "#115e59",
    "800": "#134e4a",
    "900": "#0f3f3c",
    "950": "#042f2e",
}
"""600 carries white text at a contrast of 5.5 to 1."""

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Munim",
    "SITE_HEADER": "Munim",
    "SITE_SUBHEADER": "Billing back office",
    "SITE_URL": None,
    "SITE_ICON": lambda request: static("console/logo.svg"),
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("console/logo.svg")}],
    "STYLES": [lambda request: static("console/console.css")],
    "COLORS": {"primary": TEAL},
    "BORDER_RADIUS": "6px",
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "SIDEBAR": {"show_search": True, "command_search": True, "navigation": "config.console.navigation"},
    "COMMAND": {"search_callback": "config.console.search"},
}
