"""The compose file: every service can be asked for its health, and no secret is written in it."""

from pathlib import Path

import yaml

from config import environment

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
ONE_SHOT = {"migrate"}


def test_every_lasting_service_has_a_health_check() -> None:
    without = {name for name, service in COMPOSE["services"].items() if "healthcheck" not in service}

    assert without == ONE_SHOT


def test_the_database_counts_as_healthy_only_when_it_answers_over_the_network() -> None:
    """On a new volume the image first runs a server on the socket alone, which goes away again."""
    check = COMPOSE["services"]["postgres"]["healthcheck"]["test"]

    assert check[1].startswith("pg_isready -q -h 127.0.0.1 ")


def test_hosted_pages_of_the_simulator_have_an_address_that_browsers_find() -> None:
    simulator = COMPOSE["services"]["simulator"]

    assert "--public-url http://localhost:9200" in simulator["command"]
    assert simulator["ports"] == ["127.0.0.1:9200:9200"]


def test_the_simulator_starts_only_when_asked_for() -> None:
    assert COMPOSE["services"]["simulator"]["profiles"] == ["simulator"]


def test_secrets_come_from_the_env_file_only() -> None:
    """Nothing secret is written here: passwords are asked for by name, and refuse to start when they are missing."""
    written = {
        name: value
        for service in COMPOSE["services"].values()
        for name, value in service.get("environment", {}).items()
        if "PASSWORD" in name or "KEY" in name
    }

    assert written == {"POSTGRES_PASSWORD": "${POSTGRES_PASSWORD:?is missing in .env}"}
    assert COMPOSE["x-app"]["env_file"] == ".env"


def test_only_the_product_is_given_the_secrets_of_the_product() -> None:
    given = {name for name, service in COMPOSE["services"].items() if service.get("env_file")}

    assert given == {"migrate", "web", "worker", "beat"}


def test_the_example_names_everything_production_needs_and_holds_no_secret() -> None:
    lines = [line for line in (ROOT / ".env.example").read_text().splitlines() if "=" in line and line[0] != "#"]
    given = dict(line.split("=", 1) for line in lines)

    assert set(environment.NEEDED_IN_PRODUCTION) <= set(given)
    assert [given[name] for name in ("SECRET_KEY", "FIELD_ENCRYPTION_KEYS", "POSTGRES_PASSWORD")] == ["", "", ""]
