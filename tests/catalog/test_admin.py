"""The operators' side: keys only go in, prices only gain versions, nonsense is refused."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.test import Client

from accounts.models import User
from catalog import prices
from catalog.models import Alias, Model, Price, Provider, Target
from catalog.pricing import Rates
from tests.catalog.values import tokens

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(client: Client) -> Client:
    user = User.objects.create_superuser("operator@example.com")
    client.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")
    return client


def provider_form(provider: Provider, **changes: str) -> dict[str, str]:
    return {
        "slug": provider.slug,
        "name": provider.name,
        "adapter": provider.adapter,
        "base_url": provider.base_url,
        "kinds": '["chat"]',
        "enabled": "on",
        "secret_env": provider.secret_env,
        "price_factor_basis_points": str(provider.price_factor_basis_points),
        "options": "{}",
        **changes,
    }


@pytest.fixture
def acme() -> Provider:
    return Provider.objects.create(
        slug="acme", name="Acme", adapter="openai", base_url="https://acme.example/v1", kinds=["chat"], managed=True
    )


@pytest.fixture
def chatty(acme: Provider) -> Model:
    model = Model.objects.create(slug="chatty", name="Chatty", vendor=acme, endpoints=["chat"], managed=True)
    Alias.objects.create(name="talkative", model=model, managed=True)
    Target.objects.create(model=model, provider=acme, upstream_model="chatty-1", managed=True)
    list_rates = Rates(tokens=tokens(input="1", output="2"))
    prices.publish_list(model, list_rates, guess=False, note="")
    return model


@pytest.mark.parametrize("table", ["provider", "model", "alias", "price"])
def test_the_admin_lists_and_shows_every_table(operator: Client, chatty: Model, table: str) -> None:
    assert operator.get(f"/admin/catalog/{table}/").status_code == 200
    row = apps.get_model("catalog", table)._default_manager.get()
    assert operator.get(f"/admin/catalog/{table}/{row.pk}/change/").status_code == 200
    assert operator.get(f"/admin/catalog/{table}/add/").status_code == 200


def test_a_key_goes_in_and_never_comes_out(operator: Client, acme: Provider) -> None:
    url = f"/admin/catalog/provider/{acme.pk}/change/"
    assert operator.post(url, provider_form(acme, new_secret="sk-secret")).status_code == 302
    acme.refresh_from_db()
    assert (acme.secret(), acme.managed) == ("sk-secret", True)
    assert "sk-secret" not in operator.get(url).content.decode()
    operator.post(url, provider_form(acme, name="Z"))
    acme.refresh_from_db()
    assert (acme.secret(), acme.name, acme.managed) == ("sk-secret", "Z", False)
    operator.post(url, provider_form(acme, remove_secret="on"))
    acme.refresh_from_db()
    assert not acme.has_secret


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "ftp://x"},
        {"kinds": '["telepathy"]'},
        {"options": '{"auth": "magic"}'},
        {"secret_env": "DJANGO_SECRET_KEY"},
    ],
)
def test_a_provider_that_means_nothing_is_not_saved(operator: Client, acme: Provider, wrong: dict[str, str]) -> None:
    response = operator.post(f"/admin/catalog/provider/{acme.pk}/change/", provider_form(acme, **wrong))
    assert response.status_code == 200
    before = (acme.base_url, acme.kinds, acme.options, acme.secret_env)
    acme.refresh_from_db()
    assert (acme.base_url, acme.kinds, acme.options, acme.secret_env) == before


def test_a_new_factor_publishes_new_prices(operator: Client, acme: Provider, chatty: Model) -> None:
    operator.post(f"/admin/catalog/provider/{acme.pk}/change/", provider_form(acme, price_factor_basis_points="5000"))
    versions = Price.objects.filter(model=chatty).order_by("version")
    assert [price.input_microcredits_per_mtok for price in versions] == [100_000_000, 50_000_000]


def price_form(model: Model, **changes: str) -> dict[str, str]:
    return {
        "model": str(model.pk),
        "effective_since_0": "2026-01-01",
        "effective_since_1": "00:00:00",
        "input_microcredits_per_mtok": "1000",
        "output_microcredits_per_mtok": "2000",
        "long_context": "[]",
        "service_tiers": "{}",
        "server_tools": "{}",
        "unit_prices": "{}",
        "list_prices": "{}",
        **changes,
    }


def test_a_price_is_added_as_the_next_version(operator: Client, chatty: Model) -> None:
    assert operator.post("/admin/catalog/price/add/", price_form(chatty)).status_code == 302
    newest = chatty.prices.order_by("-version")[0]
    assert (newest.version, newest.input_microcredits_per_mtok, newest.managed) == (2, 1000, False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"output_microcredits_per_mtok": ""},
        {"input_microcredits_per_mtok": "-1"},
        {"server_tools": '{"search": -1}'},
        {"unit": "image"},
        {"unit_prices": '{"1K": 5}'},
        {"long_context": '[{"input": 5}]'},
    ],
)
def test_a_price_that_means_nothing_is_not_added(operator: Client, chatty: Model, wrong: dict[str, str]) -> None:
    assert operator.post("/admin/catalog/price/add/", price_form(chatty, **wrong)).status_code == 200
    assert chatty.prices.count() == 1


def test_a_published_price_cannot_be_changed_there(operator: Client, chatty: Model) -> None:
    price = Price.objects.filter(model=chatty).get()
    assert operator.post(f"/admin/catalog/price/{price.pk}/change/", price_form(price.model)).status_code == 403
    assert operator.post(f"/admin/catalog/price/{price.pk}/delete/").status_code == 403


def model_form(model: Model, target: Target, **changes: str) -> dict[str, str]:
    rows = {
        "targets-TOTAL_FORMS": "1",
        "targets-INITIAL_FORMS": "1",
        "targets-0-id": str(target.pk),
        "targets-0-model": str(model.pk),
        "targets-0-provider": str(target.provider_id),
        "targets-0-upstream_model": target.upstream_model,
        "targets-0-position": str(target.position),
        "targets-0-enabled": "on",
        "prices-TOTAL_FORMS": "0",
        "prices-INITIAL_FORMS": "0",
    }
    own = {
        "slug": model.slug,
        "name": model.name,
        "vendor": str(model.vendor_id),
        "family": model.family,
        "endpoints": '["chat"]',
        "capabilities": "[]",
        "intents": "[]",
        "media": "{}",
        "enabled": "on",
    }
    return {**own, **rows, **changes}


def test_a_changed_target_is_the_operators_and_its_model_stays_with_the_files(operator: Client, chatty: Model) -> None:
    target = chatty.targets.get()
    form = model_form(chatty, target, **{"targets-0-upstream_model": "chatty-2"})
    assert operator.post(f"/admin/catalog/model/{chatty.pk}/change/", form).status_code == 302
    target.refresh_from_db()
    chatty.refresh_from_db()
    assert (target.upstream_model, target.managed, chatty.managed) == ("chatty-2", False, True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"slug": "talkative"},
        {"slug": "not a slug"},
        {"endpoints": '["telepathy"]'},
        {"capabilities": '["telepathy"]'},
        {"intents": "[1]"},
        {"media": '{"sizes": 3}'},
    ],
)
def test_a_model_that_means_nothing_is_not_saved(operator: Client, chatty: Model, wrong: dict[str, str]) -> None:
    form = model_form(chatty, chatty.targets.get(), **wrong)
    assert operator.post(f"/admin/catalog/model/{chatty.pk}/change/", form).status_code == 200
    assert Model.objects.filter(slug="chatty", endpoints=["chat"], media={}, managed=True).exists()


def test_an_alias_may_not_be_a_model(operator: Client, chatty: Model) -> None:
    form = {"name": "chatty", "model": str(chatty.pk)}
    assert operator.post("/admin/catalog/alias/add/", form).status_code == 200
    assert operator.post("/admin/catalog/alias/add/", {**form, "name": "loud"}).status_code == 302
    assert Alias.objects.get(name="loud").managed is False


def test_rows_can_be_given_back_to_the_files(operator: Client, chatty: Model) -> None:
    Model.objects.update(managed=False)
    action = {"action": "give_back", "_selected_action": [str(chatty.pk)]}
    assert operator.post("/admin/catalog/model/", action).status_code == 302
    assert Model.objects.get().managed


def test_rows_of_the_files_are_not_deleted(operator: Client, chatty: Model) -> None:
    assert operator.post(f"/admin/catalog/alias/{Alias.objects.get().pk}/delete/", {"post": "yes"}).status_code == 403
    assert Alias.objects.exists()
