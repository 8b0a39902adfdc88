"""The demo as a newcomer starts it: everything comes up, a stretch of the year is lived, the books are proved from outside."""

import os
import re
import subprocess
import sys
import time
import uuid
from decimal import Decimal
from pathlib import Path

import pytest
import requests

from tests.config.supervisor import supervisor

ROOT = Path(__file__).resolve().parents[2]
DAYS = 48  # past the first month end: statements, trials, renewals, retries, the first installments

pytestmark = [pytest.mark.serial, pytest.mark.slow]


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """Output of `make demo ONCE=1` cut to ``DAYS``, the folder of the exported ledgers, and that of the data."""
    var, ledgers = tmp_path_factory.mktemp("var"), tmp_path_factory.mktemp("ledgers")
    private = ("DATABASE_URL", "REDIS_URL", "MUNIM_ENV", "DJANGO_SETTINGS_MODULE", "MUNIM_TEST_DB")
    env = {name: value for name, value in os.environ.items() if name not in private}
    done = subprocess.run(
        [sys.executable, "-m", "config.local", "demo", "--once", "--days", str(DAYS), "--export-ledger", str(ledgers)],
        cwd=ROOT,
        env=env | {"MUNIM_VAR_DIR": str(var), "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    return done, ledgers, var


@pytest.fixture(scope="module")
def served(lived):
    """Addresses of the API and of the gateways where `make up` serves what the demo left."""
    done, _, var = lived
    assert done.returncode == 0
    with supervisor("up", var_dir=var, ready=r"Ctrl-C stops everything") as (_, output):
        web = re.search(r"console\s+(http\S+)/console/", output)[1] + "/api/v1"
        yield web, re.search(r"gateways\s+(http\S+)/", output)[1]


def test_the_year_is_lived_and_the_books_are_sound(lived):
    done, _, _ = lived

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Ledger balanced" in done.stdout
    assert "NO" not in done.stdout.split("Ledger balanced", 1)[1].splitlines()[0]
    assert "Unexplained" in done.stdout
    figures = {
        line.split("│")[1].strip(): line.split("│")[2:4] for line in done.stdout.splitlines() if line.count("│") == 4
    }
    assert int(figures["Authorised late, after a refusal"][0]) > 0
    assert all(int(count) > 0 for name in ("Credit notes", "Refunds") for count in figures[name])
    assert "open" in figures["Disputes"][1] or "lost" in figures["Disputes"][1]
    assert int(figures["Payments recovered after a refusal"][0]) > 0


@pytest.mark.parametrize("organisation", ["shanti-vidyalaya", "kranich-software"])
def test_bean_check_finds_nothing_in_the_exported_ledger(lived, organisation):
    done, ledgers, _ = lived
    assert done.returncode == 0

    ledger = ledgers / f"{organisation}.beancount"
    checked = subprocess.run(
        [Path(sys.executable).parent / "bean-check", str(ledger)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert ledger.read_text().count(' * "') > 100, "a transaction for every journal entry"
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_bean_check_would_find_a_forged_amount(lived, tmp_path):
    done, ledgers, _ = lived
    assert done.returncode == 0
    lines = (ledgers / "shanti-vidyalaya.beancount").read_text().splitlines()
    index = next(i for i, line in enumerate(lines) if line.startswith("  ") and line.rstrip().endswith(" INR"))
    account, amount, currency = lines[index].split()
    lines[index] = f"  {account}  {Decimal(amount) + Decimal('0.01')} {currency}"
    forged = tmp_path / "forged.beancount"
    forged.write_text("\n".join(lines))

    checked = subprocess.run(
        [Path(sys.executable).parent / "bean-check", str(forged)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert checked.returncode != 0


def test_everybody_whom_the_demo_names_can_sign_in(lived, served):
    """In each organisation there is a login for every role, and it has that role."""
    done, _, _ = lived
    web, _ = served
    password = re.search(r"password for all of them: (\S+)\)", done.stdout)[1]
    printed = re.findall(r"^  (\w+) +(\S+@\S+(?: +\S+@\S+)?)", done.stdout, re.MULTILINE)

    found = {}
    for name, addresses in printed:
        for address in addresses.split():
            answer = requests.post(f"{web}/auth/login", json={"email": address, "password": password}, timeout=30)
            assert answer.status_code == 200, answer.text
            found.setdefault(name, []).extend((one["code"], one["role"]) for one in answer.json()["organisations"])

    roles = ("clerk", "manager", "auditor", "support", "admin", "developer")
    assert found == {
        **{role: [("shanti-vidyalaya", role), ("kranich-software", role)] for role in roles},
        "operator": [],
    }


def test_make_up_goes_on_where_the_demo_ended(served):
    """A payment of the demo is refunded, and its payer's saved method charged, by a gateway started anew."""
    web, gateways = served
    session = requests.Session()
    login = {"email": "manager@shanti.example", "password": "munim-demo-2025"}
    token = session.post(f"{web}/auth/login", json=login, timeout=30).json()["access"]
    session.headers["Authorization"] = f"Bearer {token}"
    truth = session.get(f"{gateways}/_sim/ledger/rzp_test_shanti", timeout=30).json()["accounts"]
    before = next(iter(truth.values()))["totals"]["INR"]

    def write(path, body):
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        answer = session.post(f"{web}/{path}", json=body, headers=headers, timeout=60)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def listed(path):
        answer = session.get(f"{web}/{path}", timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()["results"]

    paid = listed("payments?status=succeeded")
    methods = listed("payment-methods")
    method = next(one for one in methods if one["status"] == "active" and one["kind"] == "upi")
    old = next(one for one in paid if one["gateway_ref"] and Decimal(one["amount"]["amount"]) > 10)
    refund = write(
        f"payments/{old['id']}/refunds",
        {"amount": {"amount": "1.50", "currency": "INR"}, "reason": "Meals not taken"},
    )
    asked = {
        "customer": method["customer"],
        "amount": {"amount": "7.00", "currency": "INR"},
        "method": method["id"],
    }
    charged = write("payments", {**asked, "reference": "after-the-demo"})
    deadline = time.monotonic() + 30
    while session.get(f"{web}/payments/{charged['id']}", timeout=30).json()["status"] != "succeeded":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    truth = session.get(f"{gateways}/_sim/ledger/rzp_test_shanti", timeout=30).json()["accounts"]
    after = next(iter(truth.values()))["totals"]["INR"]

    assert refund["status"] in ("succeeded", "processing")
    assert (after["refunded"] - before["refunded"], after["captured"] - before["captured"]) == (150, 700)
    assert before["captured"] > 1_000_000
