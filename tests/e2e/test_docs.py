"""What the documentation says can be found and done: its first call works, its files, tests and pictures are there."""

import json
import re
from pathlib import Path

import pytest

from tests.e2e.api_world import House

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", *(str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs").rglob("*.md")))]
APPS = ("", "billing/", "payments/", "invoices/", "subscriptions/", "analytics/", "config/")
IN_CAPABILITIES = re.compile(r"`((?:tests|analytics|billing|config|invoices|payments|subscriptions|docs)/[\w./*-]+)`")


def test_the_first_call_of_the_readme_is_answered(house: House) -> None:
    body = re.search(r"prices/quote .*? -d '(\{.*?\})'", (ROOT / "README.md").read_text(), re.DOTALL)
    assert body

    answer = house.client().post("/api/v1/prices/quote", json.loads(body[1]))

    assert answer.status_code == 200, answer.content
    assert answer.json()["total"] == {"amount": "30.00", "currency": "EUR"}


@pytest.mark.parametrize("page", PAGES)
def test_pages_name_modules_that_exist(page: str) -> None:
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_0-9]+)*/[a-z_0-9]+\.py)`", (ROOT / page).read_text()))

    assert [name for name in sorted(named) if not any((ROOT / app / name).is_file() for app in APPS)] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_lead_somewhere(page: str) -> None:
    path = ROOT / page
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())

    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


def test_capabilities_name_files_and_tests_that_exist() -> None:
    named = set(IN_CAPABILITIES.findall((ROOT / "docs/capabilities.md").read_text()))

    assert len(named) > 100
    assert [name for name in sorted(named) if not list(ROOT.glob(name))] == []
