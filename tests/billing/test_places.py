"""Places as people read them: India's states by name and digits, countries by name."""

import pytest

from billing import places
from billing.taxids import GST_STATES


@pytest.mark.parametrize(
    ("country", "region", "read"),
    [
        ("IN", "29", "Karnataka (29)"),
        ("IN", "IN-KA", "Karnataka (29)"),
        ("IN", "ts", "Telangana (36)"),
        ("IN", "25", "25"),  # no longer given
        ("IN", "Kashi", "Kashi"),
        ("IN", "", ""),
        ("DE", "29", "29"),  # no state of India
        ("US", "KA", "KA"),
    ],
)
def test_a_region_is_read_by_its_name(country: str, region: str, read: str) -> None:
    assert places.region_name(country, region) == read


@pytest.mark.parametrize(
    ("code", "read"),
    [("29", "Karnataka (29)"), ("96", "Other Country (96)"), ("DE", "Germany"), ("ZZ9", "ZZ9"), ("", "")],
)
def test_the_place_of_a_supply_is_read_by_its_name(code: str, read: str) -> None:
    assert places.place_of_supply_name(code) == read


def test_an_address_is_read_on_one_line() -> None:
    address = {"line1": "14, 3rd Cross", "city": "Bengaluru", "region": "29", "postal_code": "560041", "country": "IN"}

    assert places.on_one_line(address, ("city", "region", "country")) == "Bengaluru, Karnataka (29), India"
    assert places.on_one_line({"city": "Berlin", "country": "DE"}, tuple(address)) == "Berlin, Germany"
    assert places.on_one_line({}, tuple(address)) == ""


def test_registrations_are_of_the_states_that_are_named() -> None:
    assert len(GST_STATES) == 37
    assert {places.state_name(code) != "" for code in GST_STATES} == {True}
    assert "96" not in GST_STATES
