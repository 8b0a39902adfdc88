"""The hosted page: where a customer pays a link or an order, or passes the bank's check of an intent."""

from __future__ import annotations

import hashlib
import hmac
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlencode

from payments.simulator.control.bank import decimal_text
from payments.simulator.control.checkout import checkout
from payments.simulator.control.errors import Refused
from payments.simulator.razorpay_api.errors import RazorpayError
from payments.simulator.stripe_api import sessions
from payments.simulator.stripe_api.errors import StripeError
from payments.simulator.wire import Request, Response
from payments.simulator.world import Account, World

Json = dict[str, Any]

KINDS = {"order_": "orders", "plink_": "links", "pi_": "payment_intents", "seti_": "setup_intents",
         "cs_test_": "sessions"}  # fmt: skip
FIELD = {"orders": "order_id", "links": "payment_link", "payment_intents": "payment_intent",
         "setup_intents": "setup_intent", "sessions": "checkout_session"}  # fmt: skip
CARDS = {
    "razorpay": (("4100280000001007", "Visa, succeeds"), ("5500670000001002", "Mastercard, succeeds"),
                 ("4100280000080001", "Visa, insufficient funds"), ("4100280000060003", "Visa, declined")),
    "stripe": (("4242424242424242", "Visa, succeeds"), ("4000002500003155", "Visa, asks for 3-D Secure"),
               ("4000000000009995", "Visa, insufficient funds"), ("4000000000000341", "Visa, fails later")),
}  # fmt: skip

_STYLE = """
:root{color-scheme:light dark;--ink:#12203a;--mute:#5b6b85;--line:#dde3ec;--paper:#fff;--back:#eef2f8;--go:#1b5cff}
@media(prefers-color-scheme:dark){:root{--ink:#e8edf6;--mute:#9fb0ca;--line:#2c3a52;--paper:#16213a;--back:#0c1424}}
*{box-sizing:border-box}body{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--back);
color:var(--ink);font:16px/1.5 system-ui,sans-serif;padding:1rem}
main{background:var(--paper);border:1px solid var(--line);border-radius:14px;max-width:26rem;width:100%;
padding:1.75rem;box-shadow:0 8px 30px #0b1b3a1f}h1{font-size:1rem;margin:0;color:var(--mute);font-weight:600}
.amount{font-size:2.25rem;font-weight:700;margin:.25rem 0 0}.small{color:var(--mute);font-size:.85rem;margin:.25rem 0 1rem}
fieldset{border:1px solid var(--line);border-radius:10px;margin:0 0 1rem;padding:.75rem 1rem}
legend{font-size:.85rem;color:var(--mute);padding:0 .4rem}label{display:block;margin:.35rem 0}
select,input[type=text]{width:100%;padding:.55rem;border:1px solid var(--line);border-radius:8px;
background:var(--paper);color:var(--ink);font:inherit}
.buttons{display:grid;gap:.5rem}button{font:inherit;font-weight:600;padding:.7rem;border-radius:9px;border:1px solid var(--line);
background:transparent;color:var(--ink);cursor:pointer}button.go{background:var(--go);border-color:var(--go);color:#fff}
.note{font-size:.75rem;color:var(--mute);margin:1rem 0 0;text-align:center}
"""


def find_target(world: World, target_id: str) -> tuple[Account, str, Json]:
    """The account, kind and object of an id that can be paid."""
    for prefix, kind in KINDS.items():
        if target_id.startswith(prefix):
            for account in world.accounts.values():
                if target_id in account.of(kind):
                    return account, kind, account.of(kind)[target_id]
    raise Refused(404, f"nothing to pay under {target_id!r}")


def show(world: World, request: Request, target_id: str) -> Response:
    """GET /_sim/pay/{id}."""
    account, kind, target = find_target(world, target_id)
    if _is_done(target):
        return page("Nothing to pay", f"<h1>{escape(account.name)}</h1><p>This payment is "
                    f"{escape(target['status'])}.</p>")  # fmt: skip
    authenticating = target["status"] == "requires_action"
    amount = _amount_text(target)
    choose = "" if authenticating else _choices(account, kind)
    verb = "Approve" if authenticating else "Save" if kind == "setup_intents" else "Pay"
    what = "Your bank asks for your approval." if authenticating else escape(_purpose(target))
    body = f"""<h1>{escape(account.name)}</h1><p class="amount">{escape(amount)}</p><p class="small">{what}</p>
<form method="post">{choose}<div class="buttons">
<button class="go" name="outcome" value="ok">{verb}{"" if authenticating else " " + escape(amount)}</button>
<button name="outcome" value="fail">Fail authentication</button>
<button name="outcome" value="abandon">Abandon</button></div></form>
<p class="note">Test gateway. No money moves. Reference {escape(target_id)}</p>"""
    return page(f"{verb} {amount}", body)


def submit(world: World, request: Request, target_id: str) -> Response:
    """POST /_sim/pay/{id}: do it, then send the browser back to the merchant."""
    account, kind, target = find_target(world, target_id)
    form = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
    body: Json = {FIELD[kind]: target_id, "3ds": form.get("outcome", "ok"), "save": form.get("save") == "on"}
    if form.get("method"):
        body["method"] = form["method"]
        body.update({name: form[name] for name in ("card", "vpa", "bank") if form.get(name)})
    back = _return_url(request, target)
    try:
        result = checkout(world, account, request, body)
    except (RazorpayError, StripeError, Refused) as error:
        return page("Not possible", f"<h1>{escape(account.name)}</h1><p>{escape(str(error))}</p>")
    if form.get("outcome") == "abandon":
        return page("Abandoned", f"<h1>{escape(account.name)}</h1><p>You left without paying.</p>")
    good = result["status"] in {"succeeded", "requires_capture", "captured", "authorized"}
    if back and (good or kind in {"payment_intents", "setup_intents"}):  # other pages let the customer try again
        return Response(303, b"", "text/plain", {"Location": _with(back, _answer(account, kind, target, result))})
    word = "Thank you, it is done." if good else f"It did not work: {result.get('error_reason') or result.get('error')}"
    return page("Result", f"<h1>{escape(account.name)}</h1><p>{escape(word)}</p>")


def _answer(account: Account, kind: str, target: Json, result: Json) -> dict[str, str]:
    """What the provider adds to the merchant's address."""
    if kind == "sessions":
        return {}
    if kind in {"payment_intents", "setup_intents"}:
        name = FIELD[kind]
        done = result["status"] in {"succeeded", "requires_capture", "processing"}
        return {name: target["id"], f"{name}_client_secret": target["client_secret"],
                "redirect_status": "succeeded" if done else "failed"}  # fmt: skip
    if kind == "links":
        parts = [target["id"], target["reference_id"], target["status"], result["razorpay_payment_id"]]
        mark = hmac.new(account.key_secret.encode(), "|".join(parts).encode(), hashlib.sha256).hexdigest()
        return {"razorpay_payment_id": parts[3], "razorpay_payment_link_id": parts[0],
                "razorpay_payment_link_reference_id": parts[1], "razorpay_payment_link_status": parts[2],
                "razorpay_signature": mark}  # fmt: skip
    names = ("razorpay_payment_id", "razorpay_order_id", "razorpay_signature")
    return {name: result[name] for name in names if name in result}


def _return_url(request: Request, target: Json) -> str:
    if target.get("object") == "checkout.session":
        return sessions.return_address(target)
    redirect = (target.get("next_action") or {}).get("redirect_to_url") or {}
    return str(redirect.get("return_url") or target.get("callback_url") or request.query.get("return_url") or "")


def _with(url: str, values: dict[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(values)}" if values else url


def _is_done(target: Json) -> bool:
    return target["status"] in {"paid", "succeeded", "canceled", "cancelled", "expired", "complete",
                                "requires_capture"}  # fmt: skip


def _amount_text(target: Json) -> str:
    amount = target.get("amount", target.get("amount_total"))
    if amount is None:
        return "your card"
    currency = target["currency"].upper()
    return f"{currency} {decimal_text(amount, currency)}"


def _purpose(target: Json) -> str:
    return str(target.get("description") or target.get("reference_id") or target.get("receipt") or "")


def _choices(account: Account, kind: str) -> str:
    cards = "".join(f'<option value="{number}">{number} ({text})</option>' for number, text in CARDS[account.provider])
    if account.provider == "stripe":
        return (f'<fieldset><legend>Card</legend><select name="card" aria-label="Card">{cards}</select></fieldset>'
                '<input type="hidden" name="method" value="card">')  # fmt: skip
    save = '<label><input type="checkbox" name="save"> Save for automatic payments</label>' if kind == "orders" else ""
    return f"""<fieldset><legend>How do you want to pay?</legend>
<label><input type="radio" name="method" value="card" checked> Card <select name="card" aria-label="Card">{cards}</select></label>
<label><input type="radio" name="method" value="upi"> UPI
<input type="text" name="vpa" value="success@razorpay" aria-label="UPI id"></label>
<label><input type="radio" name="method" value="netbanking"> Netbanking (HDFC)</label>{save}</fieldset>"""


def page(title: str, body: str) -> Response:
    """A whole HTML document."""
    document = (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
                f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head>'
                f"<body><main>{body}</main></body></html>")  # fmt: skip
    return Response(200, document.encode(), "text/html; charset=utf-8")
