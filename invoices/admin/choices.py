"""What an organisation may choose about its documents, as the console asks for it."""

from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from billing.admin.choices import DEFAULT, Asked, ask_for, yes_or_no
from invoices import choices


def _text(label: str, limit: int, hint: str) -> Asked:
    return Asked(
        lambda: forms.CharField(
            label=label, max_length=limit, required=False, help_text=hint, widget=UnfoldAdminTextInputWidget()
        )
    )


def _picture(answer: Any) -> str | None:
    """The uploaded file as it is stored."""
    return choices.write_logo(answer.content_type or "", answer.read()) if isinstance(answer, UploadedFile) else None


class LogoField(forms.FileField):
    """A picture to be uploaded."""

    def clean(self, data: Any, initial: Any = None) -> Any:
        found = super().clean(data, initial)
        if isinstance(found, UploadedFile) and (found.size or 0) > choices.MAX_LOGO:
            raise forms.ValidationError(
                f"The picture has {found.size:,} bytes; at most {choices.MAX_LOGO:,} are taken."
            )
        return found


ask_for("logo", Asked(
    lambda: LogoField(required=False, max_length=200, widget=UnfoldAdminFileFieldWidget(),
                      help_text="PNG or JPEG, at most 300 kB. Without one, documents carry a drawn monogram."),
    shown=lambda value: None, read=_picture, taken_back="Take the logo away",
))  # fmt: skip
ask_for("brand_color", _text("Colour", 7, "Of documents and mail, such as #1f4e79."))
ask_for("invoice_footer", _text("Last line of invoices", choices.MAX_FOOTER, "Printed at the end of each."))
ask_for("invoice_series", _text("Invoice numbers begin with", 10, "Capitals, digits and '-'; new numbers begin at 1."))
ask_for("credit_note_series", _text("Credit note numbers begin with", 10, "Another code than that of invoices."))
ask_for("net_days", Asked(
    lambda: forms.IntegerField(label="Days to pay", min_value=0, max_value=choices.MAX_NET_DAYS, required=False,
                               help_text="Where a draft names none; usually 14.", widget=UnfoldAdminIntegerFieldWidget()),
))  # fmt: skip
ask_for("mail_invoices", yes_or_no("Mail invoices when they are issued", "yes"))
ask_for("apply_credit_automatically", yes_or_no("Free credit pays new invoices first", "yes"))
ask_for("lost_disputes", Asked(
    lambda: forms.ChoiceField(label="A payment lost to a dispute", required=False, widget=UnfoldAdminSelectWidget(), choices=[
        DEFAULT, ("loss", "is our loss; its invoice stays paid"), ("reopen", "makes its invoice due again")]),
))  # fmt: skip
ask_for("gst_export", Asked(
    lambda: forms.ChoiceField(label="Exports from India", required=False, widget=UnfoldAdminSelectWidget(), choices=[
        DEFAULT, ("lut", "without tax, under a letter of undertaking"), ("igst", "with payment of IGST")]),
))  # fmt: skip
