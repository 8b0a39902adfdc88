"""What both organisations of the demo share: their place in Munim and at the simulator, and how their people act."""

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from random import Random
from typing import Any

from config.demo.http import Api, Simulator
from config.demo.script import Script


@dataclass
class House:
    """One organisation being lived: its API, its account at the simulator, its script and its dice."""

    code: str
    api: Api
    simulator: Simulator
    script: Script
    dice: Random
    scale: int
    clock_id: str
    provider: str
    account: str = ""  # the account at the simulator
    gateway_account: str = ""  # the account in Munim
    banks: dict[str, str] = field(default_factory=dict)  # currency → bank account
    idle_customers: set[str] = field(default_factory=set)  # who never answer a letter
    today: date = date.min
    expected_turn: float = 0.0  # seconds that a turn of the clock took lately

    def open_gateway(
        self, *, public_url: str, key_id: str, key_secret: str, webhook_secret: str, currency: str
    ) -> None:
        """Open an account at the simulator and tell Munim its keys; webhooks go to Munim's own address."""
        account = self.api.post(
            "/gateway-accounts",
            {
                "provider": self.provider,
                "code": self.provider,
                "key_id": key_id,
                "key_secret": key_secret,
                "webhook_secret": webhook_secret,
                "is_default": True,
            },
        )
        self.gateway_account = account["id"]
        opened = self.simulator.post(
            "/_sim/accounts",
            {
                "provider": self.provider,
                "key_id": key_id,
                "key_secret": key_secret,
                "name": self.code,
                "webhook_url": f"{public_url}/webhooks/{self.provider}/{self.gateway_account}",
                "webhook_secret": webhook_secret,
                "settlement_currency": currency,
            },
        )
        self.account = opened["id"]

    def open_bank(self, code: str, name: str, currency: str) -> None:
        """Add the bank account that payouts of ``currency`` arrive on."""
        bank = self.api.post("/bank-accounts", {"code": code, "name": name, "currency": currency})
        self.banks[currency] = bank["id"]

    def add_method(
        self, customer: str, *, kind: str, checkout: dict[str, Any], max_amount: dict[str, str] | None = None
    ) -> tuple[str, str]:
        """What a customer's browser does: open the gateway's page, give a card or mandate, hand the result to Munim.

        Returns Munim's id of the method and the gateway's token, which only the demo's bank uses.
        """
        wanted: dict[str, Any] = {
            "customer": customer,
            "gateway_account": self.gateway_account,
            "kind": kind,
            "return_url": "https://shop.example/back",
        }
        if max_amount:
            wanted["max_amount"] = max_amount
        setup = self.api.post("/payment-methods/setup", wanted)
        body: dict[str, Any] = {"account": self.account, "save": True, **checkout}
        given: dict[str, Any] = {"customer": customer, "gateway_account": self.gateway_account}
        if self.provider == "razorpay":
            result = self.simulator.post("/_sim/checkout", body | {"order_id": setup["order_id"]})
            given["razorpay"] = {
                "payment_id": result["razorpay_payment_id"],
                "order_id": result["razorpay_order_id"],
                "signature": result["razorpay_signature"],
            }
        else:
            result = self.simulator.post("/_sim/checkout", body | {"setup_intent": setup["setup_intent"]})
            given["stripe"] = {"setup_intent": setup["setup_intent"]}
        method = self.api.post("/payment-methods", given)
        return method["id"], result.get("token") or result.get("payment_method") or ""

    def behave(self, token: str, behaviour: list[str]) -> None:
        """Let a card answer the next charges in this way, then well again."""
        self.simulator.post(f"/_sim/tokens/{token}", {"account": self.account, "behaviour": behaviour})

    def give_back(self, payment: dict[str, Any], *, share: Decimal, reason: str) -> None:
        """Credit a share of the invoice that was paid, then refund it: refunded alone, it would be due again."""
        path = f"/invoices/{payment['reference'].split(':')[1]}"
        lines = self.api.get(path)["lines"]
        parts = [
            {"position": line["position"], "amount": _part(line["amount"], share)}
            for line in lines
            if Decimal(line["amount"]["amount"])  # what was taken off again is given back with what it was taken off
        ]
        note = self.api.post(
            f"{path}/credit-notes", {"amounts": parts, "reason": reason}, **self.idempotency("credit", payment["id"])
        )
        self.api.post(
            f"/payments/{payment['id']}/refunds",
            {"amount": note["to_credit"], "reason": reason},
            **self.idempotency("refund", payment["id"]),
        )

    def idempotency(self, *parts: object) -> dict[str, dict[str, str]]:
        """Headers with a key made of what is asked for, so that a repeated demo step asks once."""
        return {"headers": {"Idempotency-Key": "demo-" + "-".join(str(part) for part in (self.code, *parts))}}


def _part(amount: dict[str, str], share: Decimal) -> dict[str, str]:
    return {"amount": f"{Decimal(amount['amount']) * share:.2f}", "currency": amount["currency"]}
