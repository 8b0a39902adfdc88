"""The demo as a newcomer starts it: everything comes up, a stretch of the year is lived, the books are proved from outside."""

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DAYS = 48  # past the first month end: statements, trials, renewals, retries, the first installments

pytestmark = [pytest.mark.serial, pytest.mark.slow]


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """Output of `make demo ONCE=1` cut to ``DAYS``, and the folder of the exported ledgers."""
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
        timeout=540,
        check=False,
    )
    return done, ledgers


def test_the_year_is_lived_and_the_books_are_sound(lived):
    done, _ = lived

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Ledger balanced" in done.stdout
    assert "NO" not in done.stdout.split("Ledger balanced", 1)[1].splitlines()[0]
    assert "Unexplained" in done.stdout


@pytest.mark.parametrize("organisation", ["shanti-vidyalaya", "kranich-software"])
def test_bean_check_finds_nothing_in_the_exported_ledger(lived, organisation):
    done, ledgers = lived
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
    done, ledgers = lived
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
