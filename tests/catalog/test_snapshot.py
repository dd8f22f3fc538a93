"""The tables as one frozen value: keys, the sandbox, what is left out."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from catalog import prices, snapshot
from catalog.models import Alias, Model, Price, Provider, Target
from catalog.pricing import Rates
from core import clock
from tests.catalog.values import tokens
from upstreams.wire import TargetOptions

pytestmark = pytest.mark.django_db

RATES = Rates(tokens=tokens(input="1", output="2"))


@pytest.fixture
def acme() -> Provider:
    provider = Provider(
        slug="acme", name="Acme", adapter="openai", base_url="https://acme.example/v1/", kinds=["chat"],
        secret_env="ACME_TEST_API_KEY",
    )  # fmt: skip
    provider.set_secret("sk-stored")
    provider.save()
    return provider


@pytest.fixture
def chatty(acme: Provider) -> Model:
    model = Model.objects.create(slug="chatty", name="Chatty", vendor=acme, endpoints=["chat"])
    Target.objects.create(model=model, provider=acme, upstream_model="second", position=20)
    Target.objects.create(model=model, provider=acme, upstream_model="first", position=10, region="eu")
    prices.publish(model, RATES, list_rates=RATES, factor_basis_points=10_000)
    return model


def sandbox(settings: Settings, *kinds: str) -> None:
    settings.SANDBOX_BASE_URL = "http://127.0.0.1:9009/v1/"
    Provider.objects.create(
        slug="sandbox", name="Sandbox", adapter="openai", kinds=list(kinds), options={"auth": "none"}
    )


def test_it_builds_an_entry_with_price_and_chain(chatty: Model) -> None:
    Alias.objects.create(name="talkative", model=chatty)
    built = snapshot.build()
    entry = built.models["chatty"]
    assert (entry.vendor, entry.vendor_name, entry.endpoints, entry.aliases) == (
        "acme",
        "Acme",
        ("chat",),
        ("talkative",),
    )
    assert [place.target.upstream_model for place in entry.targets] == ["first", "second"]
    assert entry.targets[0].target.base_url == "https://acme.example/v1"
    assert (entry.targets[0].target.region, entry.targets[0].kinds) == ("eu", {"chat"})
    assert entry.price is not None
    assert (entry.price.version, entry.price.rates) == (1, RATES)
    assert dict(built.aliases) == {"talkative": "chatty"}
    assert built.available("chat") == ("chatty",)


def test_it_is_frozen(chatty: Model) -> None:
    built = snapshot.build()
    with pytest.raises(TypeError):
        built.models["other"] = built.models["chatty"]  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        built.models["chatty"].name = "Other"  # type: ignore[misc]


def test_the_number_of_queries_does_not_grow(chatty: Model, acme: Provider) -> None:
    with CaptureQueriesContext(connection) as few:
        snapshot.build()
    for number in range(5):
        model = Model.objects.create(slug=f"m{number}", name="M", vendor=acme, endpoints=["chat"])
        Target.objects.create(model=model, provider=acme, upstream_model="m")
    with CaptureQueriesContext(connection) as many:
        snapshot.build()
    assert len(few) == len(many) == 5


def test_a_key_is_opened_and_never_shown(chatty: Model) -> None:
    built = snapshot.build()
    assert built.models["chatty"].targets[0].target.secret == "sk-stored"
    assert "sk-stored" not in repr(built)


def test_a_key_from_the_environment_wins(chatty: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_TEST_API_KEY", " sk-environment \n")
    assert snapshot.build().models["chatty"].targets[0].target.secret == "sk-environment"
    monkeypatch.setenv("ACME_TEST_API_KEY", "")
    assert snapshot.build().models["chatty"].targets[0].target.secret == "sk-stored"


def test_without_a_key_a_target_is_left_out(chatty: Model, acme: Provider) -> None:
    acme.set_secret("")
    acme.save()
    assert snapshot.build().models["chatty"].targets == ()
    acme.options = {"auth": "none"}
    acme.save()
    (first, _second) = snapshot.build().models["chatty"].targets
    assert (first.target.secret, first.target.options) == ("", TargetOptions(auth="none"))


def test_a_key_that_does_not_open_takes_only_itself_out(
    chatty: Model, acme: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    acme.secret_sealed = b"gAAAAA-not-ours"
    acme.save()
    assert snapshot.build().models["chatty"].targets == ()
    assert "acme" in caplog.text


@pytest.mark.parametrize("change", [{"options": {"telepathy": True}}, {"base_url": "acme.example"}, {"enabled": False}])
def test_a_provider_that_cannot_be_used_is_left_out(chatty: Model, acme: Provider, change: dict[str, object]) -> None:
    Provider.objects.filter(pk=acme.pk).update(**change)
    assert snapshot.build().models["chatty"].targets == ()


def test_disabled_rows_are_left_out(chatty: Model) -> None:
    Target.objects.filter(upstream_model="first").update(enabled=False)
    assert [place.target.upstream_model for place in snapshot.build().models["chatty"].targets] == ["second"]
    Alias.objects.create(name="talkative", model=chatty)
    Model.objects.update(enabled=False)
    built = snapshot.build()
    assert (dict(built.models), dict(built.aliases)) == ({}, {})


def test_media_rules_that_mean_nothing_take_only_their_model_out(chatty: Model, acme: Provider) -> None:
    Model.objects.create(slug="broken", name="Broken", vendor=acme, endpoints=["images"], media={"sizes": 3})
    assert set(snapshot.build().models) == {"chatty"}


def test_the_newest_price_in_force_holds(chatty: Model) -> None:
    dearer, later = Rates(tokens=tokens(input="3", output="4")), Rates(tokens=tokens(input="5", output="6"))
    prices.publish(chatty, dearer, list_rates=Rates(), factor_basis_points=10_000)
    prices.publish(
        chatty, later, list_rates=Rates(), factor_basis_points=10_000, effective_since=clock.now() + timedelta(hours=1)
    )
    entry = snapshot.build().models["chatty"]
    assert entry.price is not None
    assert (entry.price.version, entry.price.rates) == (2, dearer)


def test_a_model_without_a_price_has_none(chatty: Model, acme: Provider) -> None:
    Model.objects.create(slug="unpriced", name="U", vendor=acme, endpoints=["chat"])
    half = Model.objects.create(slug="half", name="H", vendor=acme, endpoints=["chat"])
    Price.objects.create(model=half, version=1, input_microcredits_per_mtok=1)
    built = snapshot.build()
    assert built.models["unpriced"].price is None
    assert built.models["half"].price is None
    assert built.available("chat") == ("chatty",)


# -- The sandbox ------------------------------------------------------------------------------------------------------


def test_the_sandbox_serves_only_where_nobody_else_can(chatty: Model, acme: Provider, settings: Settings) -> None:
    sandbox(settings, "chat")
    assert not snapshot.build().models["chatty"].sandboxed
    acme.set_secret("")
    acme.save()
    entry = snapshot.build().models["chatty"]
    (place,) = entry.targets
    assert entry.sandboxed
    assert (place.target.provider, place.target.adapter, place.target.upstream_model) == ("sandbox", "openai", "chatty")
    assert place.target.base_url == "http://127.0.0.1:9009/v1"


def test_the_sandbox_speaks_only_its_kinds(acme: Provider, settings: Settings) -> None:
    sandbox(settings, "chat")
    Model.objects.create(slug="claude", name="Claude", vendor=acme, endpoints=["messages"])
    assert snapshot.build().models["claude"].targets == ()


def test_without_an_address_there_is_no_sandbox(acme: Provider, settings: Settings) -> None:
    sandbox(settings, "chat")
    settings.SANDBOX_BASE_URL = ""
    Model.objects.create(slug="lonely", name="L", vendor=acme, endpoints=["chat"])
    assert snapshot.build().models["lonely"].targets == ()
