"""The books: accounts, entries, trial balance. Nobody writes here; documents and payments do."""

from typing import Any

from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field, extend_schema_view
from moneyed import Money
from rest_framework import mixins, serializers, views
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import AmountSerializerField, TenantGenericViewSet, TenantViewMixin, TenantViewSet, wire
from billing.models import JournalEntry, LedgerAccount, Posting
from billing.selectors import ledger


class AccountOutput(serializers.ModelSerializer):
    class Meta:
        model = LedgerAccount
        fields = ["id", "code", "currency", "kind"]


class AccountFilter(filters.FilterSet):
    code = filters.CharFilter(max_length=60)
    currency = filters.CharFilter(max_length=3)


@extend_schema_view(list=extend_schema(tags=["ledger"]))
class LedgerAccountViewSet(mixins.ListModelMixin, TenantGenericViewSet):
    """Accounts, one per code and currency."""

    queryset = LedgerAccount.objects.all()
    serializer_class = AccountOutput
    filterset_class = AccountFilter
    required_permissions = {"list": "ledger.view"}


class PostingOutput(serializers.ModelSerializer):
    account = serializers.CharField(source="account.code")
    side = serializers.SerializerMethodField()
    amount = AmountSerializerField()

    class Meta:
        model = Posting
        fields = ["account", "side", "amount", "customer"]

    @extend_schema_field({"type": "string", "enum": ["debit", "credit"]})
    def get_side(self, posting: Posting) -> str:
        return posting.get_side_display().lower()


class EntryOutput(serializers.ModelSerializer):
    postings = PostingOutput(many=True)

    class Meta:
        model = JournalEntry
        fields = ["id", "kind", "source_type", "source_id", "occurred_at", "description", "reverses", "postings"]


class EntryFilter(filters.FilterSet):
    kind = filters.CharFilter(max_length=40)
    source_id = filters.UUIDFilter()
    account = filters.CharFilter(method="by_account", max_length=60)
    since = filters.IsoDateTimeFilter(field_name="occurred_at", lookup_expr="gte")
    until = filters.IsoDateTimeFilter(field_name="occurred_at", lookup_expr="lt")

    def by_account(self, queryset: Any, name: str, value: str) -> Any:
        return queryset.filter(pk__in=Posting.objects.filter(account__code=value).values("entry_id"))


@extend_schema_view(list=extend_schema(tags=["ledger"]), retrieve=extend_schema(tags=["ledger"]))
class JournalEntryViewSet(TenantViewSet):
    """Balanced movements with their postings, newest first."""

    queryset = JournalEntry.objects.prefetch_related("postings__account")
    serializer_class = EntryOutput
    filterset_class = EntryFilter
    required_permissions = {"list": "ledger.view", "retrieve": "ledger.view"}


class TrialBalanceQuery(serializers.Serializer):
    at = serializers.DateTimeField(required=False)


class TrialAccountOutput(serializers.Serializer):
    code = serializers.CharField()
    kind = serializers.CharField()
    debit = AmountSerializerField()
    credit = AmountSerializerField()
    balance = AmountSerializerField(help_text="Debit less credit.")


class TrialTotalOutput(serializers.Serializer):
    currency = serializers.CharField()
    debit = AmountSerializerField()
    credit = AmountSerializerField()


class TrialBalanceOutput(serializers.Serializer):
    balanced = serializers.BooleanField()
    totals = TrialTotalOutput(many=True)
    accounts = TrialAccountOutput(many=True)


class TrialBalanceView(TenantViewMixin, views.APIView):
    required_permissions = {"get": "ledger.view"}

    @extend_schema(
        operation_id="ledger_trial_balance",
        parameters=[
            OpenApiParameter("at", {"type": "string", "format": "date-time"}, description="Up to and including.")
        ],
        responses=TrialBalanceOutput,
        tags=["ledger"],
    )
    def get(self, request: Request) -> Response:
        """Sums of every account, and whether debits equal credits in each currency."""
        query = TrialBalanceQuery(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        found = ledger.trial_balance(organisation_id=self.organisation.pk, at=query.validated_data.get("at"))
        return Response(
            {
                "balanced": found.balanced,
                "totals": [
                    {"currency": code, "debit": wire(Money(debit, code)), "credit": wire(Money(credit, code))}
                    for code, (debit, credit) in sorted(found.totals.items())
                ],
                "accounts": [
                    {
                        "code": row.code,
                        "kind": row.kind,
                        "debit": wire(Money(row.debit, row.currency)),
                        "credit": wire(Money(row.credit, row.currency)),
                        "balance": wire(Money(row.balance, row.currency)),
                    }
                    for row in found.accounts
                ],
            }
        )
