"""Edits by hand of a draft's lines. Pure: made again whenever the lines are priced anew, so that both survive."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from moneyed import Money

from invoices.drafts import ONE, LineInput

ADD, DROP, SET = "add", "drop", "set"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One decision: ``add`` a line, ``drop`` the lines of a component, ``set`` what they cost in all."""

    kind: str
    code: str = ""
    subscription_id: uuid.UUID | None = None
    description: str = ""
    amount: Money | None = None
    tax_category: str = ""


def edited(lines: Sequence[LineInput], edits: Iterable[Edit]) -> list[LineInput]:
    """``lines`` after the edits, in their order. An edit of a component that has no line any more does nothing."""
    found = list(lines)
    for edit in edits:
        if edit.kind == ADD:
            found.append(_added(edit))
        elif edit.kind == DROP:
            found = [line for line in found if not is_meant(line, edit)]
        else:
            found = _set(found, edit)
    return found


def is_meant(line: LineInput, edit: Edit) -> bool:
    """Whether the edit is about this line: of its component, and where it says so, of its subscription."""
    return line.code == edit.code and edit.subscription_id in (None, line.subscription_ref)


def _added(edit: Edit) -> LineInput:
    assert edit.amount is not None
    return LineInput(
        description=edit.description,
        amount=edit.amount,
        code=edit.code,
        tax_category=edit.tax_category,
        subscription_ref=edit.subscription_id,
        details=({"kind": "by_hand"},),
    )


def _set(lines: Sequence[LineInput], edit: Edit) -> list[LineInput]:
    """The first line of the component takes the amount, its others go."""
    assert edit.amount is not None
    meant = [line for line in lines if is_meant(line, edit)]
    if not meant:
        return list(lines)
    changed = replace(
        meant[0], amount=edit.amount, unit_price=None, quantity=ONE, description=edit.description or meant[0].description,
        details=({"kind": "by_hand", "was": f"{sum(line.amount.amount for line in meant):f}"},),
    )  # fmt: skip
    return [changed if line is meant[0] else line for line in lines if line is meant[0] or line not in meant]
