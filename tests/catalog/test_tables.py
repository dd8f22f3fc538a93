"""What the database itself holds: prices stand, names are unique, changes are announced."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from catalog import prices
from catalog.models import CHANNEL, Alias, Model, Price, Provider, Target
from catalog.pricing import ContextTier, Rates, ServiceTier
from core import ids
from tests.catalog.values import tokens

pytestmark = pytest.mark.django_db

RATES = Rates(
    tokens=tokens(input="1", cached_input="0.1", output="2"),
    long_context=(ContextTier(200_000, tokens(input="2", output="3")),),
    service_tiers=(ServiceTier("priority", tokens(input="2", output="4")),),
    server_tools=(("fetch", 0), ("search", 1_000_000)),
)


@pytest.fixture
def vendor() -> Provider:
    return Provider.objects.create(
        slug="acme", name="Acme", adapter="openai", base_url="https://acme.example/v1", kinds=["chat"]
    )


@pytest.fixture
def chatty(vendor: Provider) -> Model:
    return Model.objects.create(slug="chatty", name="Chatty", vendor=vendor, endpoints=["chat"])


def publish(model: Model, rates: Rates = RATES, **more: Any) -> Price | None:
    return prices.publish(model, rates, list_rates=rates, factor_basis_points=10_000, **more)


def test_a_price_reads_back_as_it_was_published(chatty: Model) -> None:
    made = publish(chatty, guess=True, note="a guess")
    assert made is not None
    stored = Price.objects.get(pk=made.pk)
    assert (stored.version, stored.rates, stored.guess, stored.note) == (1, RATES, True, "a guess")


def test_a_new_version_only_where_something_differs(chatty: Model) -> None:
    first = publish(chatty)
    assert publish(chatty) is None
    second = publish(chatty, Rates(tokens=tokens(input="1", cached_input="0.1", output="3")))
    assert first is not None
    assert second is not None
    assert [price.version for price in chatty.prices.order_by("version")] == [1, 2]
    assert Price.objects.get(pk=first.pk).rates == RATES


def test_a_changed_note_makes_no_version(chatty: Model) -> None:
    publish(chatty, note="old")
    assert publish(chatty, note="new", guess=True) is None
    assert list(chatty.prices.values_list("version", "note", "guess")) == [(1, "new", True)]


def test_a_price_that_is_not_set_is_not_published(chatty: Model) -> None:
    with pytest.raises(ValueError, match="input and output"):
        publish(chatty, Rates(tokens=tokens(input="1")))


@pytest.mark.parametrize(
    "change",
    [
        {"input_microcredits_per_mtok": 1},
        {"output_microcredits_per_mtok": None},
        {"long_context": []},
        {"unit_prices": {"default": 1}, "unit": "clip"},
        {"version": 7},
        {"factor_basis_points": 1},
        {"list_prices": {}},
    ],
)
def test_a_published_price_is_never_changed(chatty: Model, change: dict[str, Any]) -> None:
    publish(chatty)
    with pytest.raises(DatabaseError, match="never changed or deleted"), transaction.atomic():
        chatty.prices.update(**change)
    assert chatty.prices.get().rates == RATES


def test_a_published_price_is_never_deleted(chatty: Model) -> None:
    publish(chatty)
    with pytest.raises(DatabaseError, match="never changed or deleted"), transaction.atomic():
        chatty.prices.all().delete()
    with pytest.raises(IntegrityError), transaction.atomic():
        chatty.delete()
    assert chatty.prices.count() == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_microcredits_per_mtok": -1},
        {"output_microcredits_per_mtok": -1},
        {"audio_input_microcredits_per_mtok": -1},
        {"long_context": [{"above_input_tokens": 10, "input": -1}]},
        {"service_tiers": {"flex": {"input": -1}}},
        {"server_tools": {"search": -1}},
        {"server_tools": {"search": 0.5}},
        {"server_tools": {"search": "1"}},
        {"unit": "image", "unit_prices": {"1K": -1}},
        {"unit": "image"},
        {"unit_prices": {"1K": 1}},
        {"version": 0},
    ],
)
def test_the_database_refuses_prices_that_are_none(chatty: Model, wrong: dict[str, Any]) -> None:
    facts = {"input_microcredits_per_mtok": 1, "output_microcredits_per_mtok": 1, "version": 1, **wrong}
    with pytest.raises(IntegrityError), transaction.atomic():
        Price.objects.create(model=chatty, **facts)


def test_a_version_is_given_once(chatty: Model) -> None:
    publish(chatty)
    with pytest.raises(IntegrityError), transaction.atomic():
        Price.objects.create(model=chatty, version=1, input_microcredits_per_mtok=1, output_microcredits_per_mtok=1)


def test_an_alias_never_has_the_name_of_a_model(vendor: Provider, chatty: Model) -> None:
    with pytest.raises(IntegrityError, match="name of a model"), transaction.atomic():
        Alias.objects.create(name="chatty", model=chatty)
    Alias.objects.create(name="talkative", model=chatty)
    with pytest.raises(IntegrityError, match="name of a model"), transaction.atomic():
        Model.objects.create(slug="talkative", name="Talkative", vendor=vendor)


def test_a_target_stands_once_in_a_chain(vendor: Provider, chatty: Model) -> None:
    Target.objects.create(model=chatty, provider=vendor, upstream_model="chatty-1")
    Target.objects.create(model=chatty, provider=vendor, upstream_model="chatty-1", region="eu")
    with pytest.raises(IntegrityError), transaction.atomic():
        Target.objects.create(model=chatty, provider=vendor, upstream_model="chatty-1")


def test_a_key_is_sealed_in_its_row(vendor: Provider) -> None:
    vendor.set_secret("sk-very-secret")
    vendor.save()
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret_sealed FROM catalog_provider WHERE slug = 'acme'")
        (sealed,) = cursor.fetchone()
    assert b"very-secret" not in bytes(sealed)
    assert Provider.objects.get(slug="acme").secret() == "sk-very-secret"
    vendor.set_secret("")
    assert not vendor.has_secret


@pytest.mark.parametrize("table", ["provider", "model", "alias", "price", "target"])
def test_every_table_announces_its_changes(table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT pg_get_triggerdef(oid) FROM pg_trigger
               WHERE tgrelid = %s::regclass AND tgname = 'catalog_announce'""",
            [f"catalog_{table}"],
        )
        (definition,) = cursor.fetchone()
    assert "AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE" in definition
    assert "catalog_announce()" in definition


def test_a_commit_is_heard_on_the_channel_once() -> None:
    """On connections of its own: what a test's transaction rolls back is never announced."""
    row = {"id": ids.uuid7(), "slug": "heard-once"}
    with psycopg.connect(**_dsn(), autocommit=True) as listener, psycopg.connect(**_dsn()) as writer:
        listener.execute(f"LISTEN {CHANNEL}")
        with writer.transaction():
            writer.execute(
                """INSERT INTO catalog_provider (id, slug, name, adapter, base_url, kinds, secret_env, enabled,
                                                 price_factor_basis_points, options, managed)
                   VALUES (%(id)s, %(slug)s, '', 'openai', '', '[]', '', false, 10000, '{}', false)""",
                row,
            )
            writer.execute("DELETE FROM catalog_provider WHERE id = %(id)s", row)
        notes = [*listener.notifies(timeout=60, stop_after=1), *listener.notifies(timeout=1)]
        heard = [(note.channel, note.payload) for note in notes]
    assert heard == [(CHANNEL, "")]


def _dsn() -> dict[str, Any]:
    parameters: dict[str, Any] = connection.get_connection_params()
    return {name: parameters[name] for name in ("host", "port", "user", "password", "dbname") if name in parameters}
