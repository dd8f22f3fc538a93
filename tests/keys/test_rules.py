"""What a key's fields may hold: rows of what came in and what is stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
import time_machine

from catalog.models import Alias, Model, Provider
from keys import rules

NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "stored"),
    [("prod", "prod"), ("  prod-eu ", "prod-eu"), ("کلید", "کلید"), ("x" * 80, "x" * 80)],
)
def test_names(given: str, stored: str) -> None:
    assert rules.name(given) == stored


@pytest.mark.parametrize("given", ["", "   ", "x" * 81, "two\nlines", "tab\there", "nul\x00", "\u202eright-to-left"])
def test_bad_names(given: str) -> None:
    with pytest.raises(ValueError, match="name"):
        rules.name(given)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (None, None),
        (1, 1_000_000),
        (0.000001, 1),
        (12.34, 12_340_000),
        ("5000", 5_000_000_000),
        (Decimal("2.5"), 2_500_000),
    ],
)
def test_limits(given: object, stored: int | None) -> None:
    assert rules.spending_limit(given) == stored


@pytest.mark.parametrize(
    "given", [0, -1, True, float("nan"), float("inf"), 0.0000001, "1.0000001", 1e30, "many", [], {}, "", "-0"]
)
def test_bad_limits(given: object) -> None:
    with pytest.raises(ValueError, match=r"limit|number of credits"):
        rules.spending_limit(given)


def test_complaints_about_limits_are_written_for_people() -> None:
    with pytest.raises(ValueError, match=r"^Give a number of credits\.$"):
        rules.spending_limit("many")


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (None, None),
        (NOW + timedelta(seconds=1), NOW + timedelta(seconds=1)),
        (datetime(2031, 1, 1), datetime(2031, 1, 1, tzinfo=UTC)),  # noqa: DTZ001 - that is the case
        (datetime(2031, 1, 1, 5, tzinfo=timezone(timedelta(hours=5))), datetime(2031, 1, 1, tzinfo=UTC)),
    ],
)
@time_machine.travel(NOW, tick=False)
def test_expiries(given: datetime | None, stored: datetime | None) -> None:
    assert rules.expiry(given) == stored


@pytest.mark.parametrize("given", [NOW, NOW - timedelta(days=1)])
@time_machine.travel(NOW, tick=False)
def test_an_expiry_lies_ahead(given: datetime) -> None:
    with pytest.raises(ValueError, match="future"):
        rules.expiry(given)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ([], []),
        (["", "  "], []),
        (["10.0.0.7/8"], ["10.0.0.0/8"]),
        (["192.0.2.1"], ["192.0.2.1/32"]),
        (["2001:DB8::/32", "2001:db8::/32"], ["2001:db8::/32"]),
    ],
)
def test_networks(given: list[str], stored: list[str]) -> None:
    assert rules.networks(given) == stored


@pytest.mark.parametrize("given", [["10.0.0"], ["example.com"], ["10.0.0.0/33"], [f"10.0.{n}.0/24" for n in range(51)]])
def test_bad_networks(given: list[str]) -> None:
    with pytest.raises(ValueError, match="network"):
        rules.networks(given)


@pytest.fixture
def catalog(db: None) -> None:
    Model.objects.all().delete()
    vendor = Provider.objects.create(slug="vendor", name="Vendor", adapter="openai")
    one = Model.objects.create(slug="model-one", name="One", vendor=vendor)
    Model.objects.create(slug="model-two", name="Two", vendor=vendor)
    Alias.objects.create(name="old-one", model=one)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ([], []),
        (["model-two", "model-one", "model-one"], ["model-one", "model-two"]),
        (["old-one"], ["model-one"]),
        ([" model-one ", "old-one"], ["model-one"]),
    ],
)
def test_models_are_kept_by_their_own_ids(catalog: None, given: list[str], stored: list[str]) -> None:
    assert rules.models(given) == stored


def test_an_unknown_model_is_named(catalog: None) -> None:
    with pytest.raises(ValueError, match="“model-three”"):
        rules.models(["model-one", "model-three"])
