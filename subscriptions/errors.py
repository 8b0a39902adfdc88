"""What the subscriptions app refuses, by name."""

from billing.errors import Conflict, InvalidInput


class InvalidPlan(InvalidInput):
    code = "invalid_plan"
    message = "The plan is not valid."


class PlanCodeTaken(Conflict):
    code = "plan_code_taken"
    message = "A plan with the code '{plan}' exists; add a version to it, or choose another code."


class DuplicatePrice(InvalidPlan):
    code = "duplicate_price"
    message = "The component '{component}' has two prices in {currency}; a component has one price per currency."


class UnevenPrices(InvalidPlan):
    code = "uneven_prices"
    message = "The component '{component}' has no price in {currency}; price every component in every currency of the version."


class UnknownMeter(InvalidPlan):
    code = "unknown_meter"
    message = "There is no meter '{meter}' in this organisation."


class VersionOutOfOrder(InvalidPlan):
    code = "version_out_of_order"
    message = "Version {number} is effective from {last}; a later version cannot begin before it."


class PlanUnavailable(Conflict):
    code = "plan_unavailable"
    message = "The plan '{plan}' is not offered on {on}."


class InvalidSubscription(InvalidInput):
    code = "invalid_subscription"
    message = "The subscription is not valid."


class ExternalIdTaken(Conflict):
    code = "external_id_taken"
    message = "A subscription with the external_id '{external_id}' exists."


class TransitionRefused(Conflict):
    code = "transition_refused"
    message = "The subscription is {status}; it cannot {operation} now."


class NothingToChange(Conflict):
    code = "nothing_to_change"
    message = "Plan version and quantity are what they are already."


class BillingBehind(Conflict):
    code = "billing_behind"
    message = "The period that began on {on} is not billed yet; run the billing first, then change the subscription."


class ChangePlanned(Conflict):
    code = "not_planned"
    message = "The subscription has no {what} to take back."


class ChangesPlanAnyway(Conflict):
    code = "changes_plan_anyway"
    message = "The subscription changes to another plan or version by {on}, as was planned for it before."


class CancellationPlanned(Conflict):
    code = "cancellation_planned"
    message = "The subscription is cancelled on {on}; take the cancellation back first."


class NoticePassed(Conflict):
    code = "notice_passed"
    message = (
        "Notice for this term had to be given by {on}: another term follows. Let it end after that one, or on a date."
    )


class AddOnNotOffered(InvalidInput):
    code = "add_on_not_offered"
    message = "The plan offers no add-on '{add_on}'; leave it out, or choose a plan that has it."


class DraftNotPriced(Conflict):
    """A draft of the billing run cannot be priced anew."""

    code = "draft_not_priced"
    message = "The draft cannot be priced now: {reason}"


class NotADraftOfTheRun(Conflict):
    """Only drafts of the billing run are edited this way; and only before they are finalised."""

    code = "not_a_draft_of_the_run"
    message = "The invoice is {status} and not a draft of the billing run; edit drafts while their grace lasts."


class ProrationOff(Conflict):
    code = "proration_off"
    message = (
        "The subscription is charged by whole periods and gives nothing back; write a credit note by hand instead."
    )


class PeriodOver(Conflict):
    code = "period_over"
    message = "Nothing that was paid for is left; begin a new subscription."


class QuantityBelowUse(Conflict):
    code = "quantity_below_use"
    message = "{used} are in use; the quantity cannot go below that."


class TaxBasisDiffers(Conflict):
    code = "tax_basis_differs"
    message = (
        "The prices of one plan include tax and those of the other do not; end this subscription and begin another one."
    )


class InvalidPlanMigration(InvalidInput):
    code = "invalid_plan_migration"
    message = "The plan migration is not valid."


class MigrationState(Conflict):
    code = "migration_state"
    message = "The plan migration is {status}; it cannot be {operation}."


class NothingToRetry(Conflict):
    """Nothing of this is set aside any more."""

    code = "nothing_to_retry"
    message = "Nothing is set aside here any more; it was taken up again already."
