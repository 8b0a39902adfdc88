"""Shapes of how subscriptions live, on the wire: rules of plans, terms, and what may be asked of a subscription."""

from typing import Any

from rest_framework import serializers

from billing.api.base import PlainJSONField, ReasonedChange, StrictSerializer
from subscriptions import rules
from subscriptions.models import Credit, Interval, Proration
from subscriptions.services import changing
from subscriptions.services.paying import MAX_NET_DAYS

ADD_ON_QUANTITY = 1_000_000


class AddOnsField(serializers.DictField):
    """Quantities of add-ons by component."""

    child = serializers.IntegerField(min_value=0, max_value=ADD_ON_QUANTITY)


class TermShape(StrictSerializer):
    interval = serializers.ChoiceField(choices=Interval.choices)
    count = serializers.IntegerField(min_value=1, max_value=rules.MAX_TERM, default=1)
    renewals = serializers.IntegerField(
        min_value=0, max_value=rules.MAX_RENEWALS, required=False, allow_null=True, help_text="null: for ever."
    )
    notice_days = serializers.IntegerField(min_value=0, max_value=rules.MAX_NOTICE_DAYS, default=0)


class RulesShape(StrictSerializer):
    """Where a plan differs from the organisation's settings; what is left out follows them."""

    proration = serializers.ChoiceField(choices=Proration.choices, required=False)
    cycle = serializers.ChoiceField(choices=rules.CHOICES["cycle"], required=False)
    time_zone = serializers.ChoiceField(choices=rules.CHOICES["time_zone"], required=False)
    usage_after_change = serializers.ChoiceField(choices=rules.CHOICES["usage_after_change"], required=False)
    last_day = serializers.ChoiceField(choices=rules.CHOICES["last_day"], required=False)
    change_when = serializers.ChoiceField(choices=rules.CHANGE_WHEN, required=False)
    payment_gate_days = serializers.IntegerField(
        min_value=1, max_value=rules.MAX_GATE_DAYS, required=False, allow_null=True
    )
    usage_in_advance_hours = serializers.IntegerField(
        min_value=0,
        max_value=rules.MAX_HOURS,
        required=False,
        help_text="Hours between two invoices of usage charged in advance; 0: as soon as a job finds any.",
    )
    seats_meter = serializers.CharField(max_length=60, required=False, allow_blank=True)
    trial_prices = serializers.DictField(
        child=serializers.CharField(max_length=24), required=False, allow_null=True, help_text='{"INR": "49.00"}'
    )
    term = TermShape(required=False, allow_null=True)


class ChangeInput(StrictSerializer):
    plan = serializers.CharField(max_length=60, required=False, help_text="Code or id; its present version is taken.")
    quantity = serializers.IntegerField(min_value=1, max_value=changing.MAX_QUANTITY, required=False)
    when = serializers.ChoiceField(
        choices=rules.CHANGE_WHEN,
        required=False,
        help_text="Default: the rule change_when, else now. by_value: dearer now.",
    )
    on = serializers.DateTimeField(required=False, help_text="At this time instead.")
    prorate = serializers.BooleanField(required=False, help_text="False: the new price counts from the next period on.")
    keep_planned = serializers.BooleanField(default=False, help_text="True: changes planned before stay planned.")
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True)


class AddOnsInput(StrictSerializer):
    add_ons = AddOnsField(help_text="Quantities by component; 0: none of it any more; what is not named stays.")
    prorate = serializers.BooleanField(default=True, help_text="False: the price counts from the next period on.")
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True)


class PaymentChange(ReasonedChange):
    """For the invoices that come; those that are issued, and drafts in their grace, keep what they were made with."""

    payment_method = serializers.UUIDField(required=False, allow_null=True, help_text="null: the customer's default.")
    collect_automatically = serializers.BooleanField(required=False)
    net_days = serializers.IntegerField(min_value=0, max_value=MAX_NET_DAYS, required=False)
    metadata = PlainJSONField(required=False, help_text="As a whole.")


class CancelChangeInput(StrictSerializer):
    change = serializers.UUIDField(required=False, help_text="One planned change; default: all of them.")
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True)


class PauseInput(StrictSerializer):
    on = serializers.DateTimeField(required=False, help_text="At this time; default: now.")
    resume_at = serializers.DateTimeField(required=False, allow_null=True)
    credit = serializers.ChoiceField(choices=Credit.choices, default=Credit.NONE)
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True)


class ResumeInput(StrictSerializer):
    on = serializers.DateTimeField(required=False, help_text="At this time; default: now.")
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True)


class CancelInput(StrictSerializer):
    when = serializers.ChoiceField(choices=rules.CANCEL_WHEN, default=rules.NOW)
    on = serializers.DateTimeField(required=False, help_text="At this time instead.")
    credit = serializers.ChoiceField(choices=Credit.choices, default=Credit.NONE)
    waive_unbilled = serializers.BooleanField(
        default=False, help_text="True: end it although a period could not be billed, and give that period up."
    )
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True)


class EndInput(StrictSerializer):
    ends_at = serializers.DateTimeField(
        allow_null=True, help_text="Its day is the last one charged; a term gives way to it. null: open-ended."
    )
    credit = serializers.ChoiceField(
        choices=Credit.choices, default=Credit.NONE, help_text="Of what is charged past the new end."
    )
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True)


class TermInput(StrictSerializer):
    """One of ``term``, ``renews``, ``renewals``."""

    term = TermShape(required=False, allow_null=True, help_text="Another term; null: none, open-ended.")
    when = serializers.ChoiceField(
        choices=rules.TERM_WHEN,
        required=False,
        help_text="Of another term: now, counted from the first day of the running period (default), or at the present end.",
    )
    renews = serializers.BooleanField(
        required=False,
        help_text="False: it ends with its term, or with the next one where the notice for this one has passed. "
        "True: that, or a term that was to follow, is taken back.",
    )
    renewals = serializers.IntegerField(
        required=False, allow_null=True, min_value=0, max_value=rules.MAX_RENEWALS,
        help_text="How often the term renews itself from now on; null: for ever.",
    )  # fmt: skip
    credit = serializers.ChoiceField(
        choices=Credit.choices, default=Credit.NONE, help_text="Of what is charged past the end of a term from now on."
    )
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        asked = [name for name in ("term", "renews", "renewals") if name in attrs]
        if len(asked) != 1:
            raise serializers.ValidationError({(asked or ["term"])[-1]: "Give one of term, renews, renewals."})
        if attrs.get("term"):
            attrs["term"] = rules.Term(**attrs["term"])
        return attrs


class DecisionInput(StrictSerializer):
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True)


def _about(shape: type[StrictSerializer]) -> type[StrictSerializer]:
    """The same with the subscription it is about, for previews."""
    return type(f"Previewed{shape.__name__}", (shape,), {"subscription": serializers.UUIDField()})


PREVIEWED: dict[str, type[StrictSerializer]] = {
    "change": _about(ChangeInput),
    "add_ons": _about(AddOnsInput),
    "cancel_change": _about(CancelChangeInput),
    "pause": _about(PauseInput),
    "resume": _about(ResumeInput),
    "suspend": type("PreviewedSuspendInput", (_about(DecisionInput),), {}),
    "cancel": _about(CancelInput),
    "change_end": _about(EndInput),
    "change_term": _about(TermInput),
    "uncancel": type("PreviewedUncancelInput", (_about(DecisionInput),), {}),
    "reactivate": type("PreviewedReactivateInput", (_about(DecisionInput),), {}),
}
