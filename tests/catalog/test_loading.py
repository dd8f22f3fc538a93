"""``load_catalog``: idempotent, careful with what operators took over, clear about what it can't do."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from catalog import loading, prices, source
from catalog.models import Alias, Model, Price, Provider, Target
from catalog.pricing import Rates
from tests.catalog.values import tokens

pytestmark = pytest.mark.django_db

FILES = """
[providers.acme]
name = "Acme"
adapter = "openai"
base_url = "https://api.acme.example/v1"
secret_env = "ACME_API_KEY"
kinds = ["chat"]
price_factor = "0.9"

[providers.other]
name = "Other"
adapter = "openai"
base_url = "https://api.other.example/v1"
kinds = ["chat"]

[models.chatty]
name = "Chatty"
vendor = "acme"
endpoints = ["chat"]
default_max_output_tokens = 100
targets = [{ provider = "acme", model = "chatty-1" }, { provider = "other", model = "acme/chatty" }]
price = { tokens = { input = "1", output = "2" } }

[models.quiet]
name = "Quiet"
vendor = "acme"
endpoints = ["chat"]
default_max_output_tokens = 100
price = { same_as = "chatty" }

[aliases]
talkative = "chatty"
"""


def load(folder: Path, *changes: tuple[str, str]) -> dict[str, int]:
    text = FILES
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "catalog.toml").write_text(text, encoding="utf-8")
    done = loading.load(source.read(folder))
    return {deed: count for deed, count in done.items() if count and not deed.endswith("unchanged")}


def newest(slug: str) -> Price:
    price = Price.objects.filter(model__slug=slug).order_by("-version").first()
    assert price is not None
    return price


def test_the_first_load_fills_the_tables(tmp_path: Path) -> None:
    assert load(tmp_path) == {
        "provider created": 2, "model created": 2, "target created": 2, "alias created": 1, "price created": 2,
    }  # fmt: skip
    chain = Target.objects.filter(model__slug="chatty").values_list("provider__slug", "upstream_model")
    assert list(chain.order_by("position")) == [("acme", "chatty-1"), ("other", "acme/chatty")]
    price = newest("chatty")
    assert price.rates == Rates(tokens=tokens(input="0.9", output="1.8"))
    assert price.list_prices == {"tokens": {"input": 100_000_000, "output": 200_000_000}}


def test_a_second_load_writes_nothing(tmp_path: Path) -> None:
    load(tmp_path)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert load(tmp_path) == {}
    written = [query["sql"] for query in queries if query["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]
    assert written == []


def test_the_own_files_load_twice_alike(loaded: source.CatalogSource) -> None:
    assert Model.objects.count() == len(loaded.models)
    again = loading.load(loaded)
    assert [deed for deed, count in again.items() if count and not deed.endswith("unchanged")] == []


def test_only_what_differs_is_changed(tmp_path: Path) -> None:
    load(tmp_path)
    assert load(tmp_path, ('name = "Chatty"', 'name = "Chatty 2"')) == {"model updated": 1}
    assert load(tmp_path, ('output = "2"', 'output = "3"')) == {"model updated": 1, "price created": 2}
    assert (newest("chatty").version, newest("chatty").rates.tokens.output) == (2, 270_000_000)


def test_a_new_factor_publishes_new_prices(tmp_path: Path) -> None:
    load(tmp_path)
    assert load(tmp_path, ('price_factor = "0.9"', 'price_factor = "0.8"')) == {
        "provider updated": 1,
        "price created": 2,
    }
    assert newest("chatty").rates.tokens.input == 80_000_000


def test_what_the_files_drop_is_retired_and_may_come_back(tmp_path: Path) -> None:
    load(tmp_path)
    without = ("[models.quiet]", "[models.loud]"), ('name = "Quiet"', 'name = "Loud"')
    assert load(tmp_path, *without)["model retired"] == 1
    assert not Model.objects.get(slug="quiet").enabled
    assert newest("quiet").version == 1
    assert load(tmp_path) == {"model updated": 1, "model retired": 1}
    assert Model.objects.get(slug="quiet").enabled


def test_targets_and_aliases_follow_the_files(tmp_path: Path) -> None:
    load(tmp_path)
    changes = (
        ('{ provider = "other", model = "acme/chatty" }', '{ provider = "other", model = "chatty" }'),
        ("talkative", "loud"),
    )
    assert load(tmp_path, *changes) == {
        "target created": 1, "target removed": 1, "alias created": 1, "alias removed": 1,
    }  # fmt: skip


def test_an_alias_may_become_a_model(tmp_path: Path) -> None:
    load(tmp_path)
    changed = load(tmp_path, ("[models.quiet]", "[models.talkative]"), ('\ntalkative = "chatty"', '\nloud = "chatty"'))
    assert changed["model created"] == 1
    assert not Alias.objects.filter(name="talkative").exists()


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        (Provider, {"base_url": "https://mine.example"}),
        (Model, {"name": "Mine"}),
        (Target, {"position": 99}),
    ],
)
def test_an_operators_row_stays(tmp_path: Path, kind: Any, own: dict[str, Any]) -> None:
    load(tmp_path)
    row = kind.objects.order_by("id")[0]
    kind.objects.filter(pk=row.pk).update(**own, managed=False)
    assert load(tmp_path) == {f"{kind._meta.model_name} kept": 1}
    assert kind.objects.filter(pk=row.pk, **own).exists()


def test_an_operators_price_stays(tmp_path: Path) -> None:
    load(tmp_path)
    mine = Rates(tokens=tokens(input="7", output="7"))
    prices.publish(Model.objects.get(slug="chatty"), mine, list_rates=Rates(), factor_basis_points=10_000)
    assert load(tmp_path, ('output = "2"', 'output = "3"'))["price kept"] == 1
    assert newest("chatty").rates == mine


def test_an_operators_own_rows_stay(tmp_path: Path) -> None:
    load(tmp_path)
    acme = Provider.objects.get(slug="acme")
    mine = Model.objects.create(slug="mine", name="Mine", vendor=acme, endpoints=["chat"])
    Target.objects.create(model=Model.objects.get(slug="chatty"), provider=acme, upstream_model="chatty-2", position=5)
    Alias.objects.create(name="my-name", model=mine)
    assert load(tmp_path) == {}
    assert Model.objects.get(slug="mine").enabled
    assert Target.objects.filter(upstream_model="chatty-2").exists()


def test_a_stored_key_is_never_touched(tmp_path: Path) -> None:
    load(tmp_path)
    acme = Provider.objects.get(slug="acme")
    acme.set_secret("sk-mine")
    acme.save()
    load(tmp_path, ('name = "Acme"', 'name = "Acme Inc"'))
    acme.refresh_from_db()
    assert (acme.name, acme.secret()) == ("Acme Inc", "sk-mine")


def test_a_name_that_is_taken_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    load(tmp_path)
    Alias.objects.create(name="loud", model=Model.objects.get(slug="chatty"))
    with pytest.raises(source.CatalogInvalid, match="an alias that an operator made"):
        load(tmp_path, ("[models.quiet]", "[models.loud]"), ('name = "Chatty"', 'name = "Changed"'))
    assert Model.objects.get(slug="chatty").name == "Chatty"


def test_the_command_loads_and_says_what_it_did(tmp_path: Path) -> None:
    (tmp_path / "catalog.toml").write_text(FILES, encoding="utf-8")
    said = io.StringIO()
    call_command("load_catalog", folder=tmp_path, stdout=said)
    assert "2 × model created" in said.getvalue()
    said = io.StringIO()
    call_command("load_catalog", folder=tmp_path, stdout=said)
    assert said.getvalue().strip() == "Nothing to change."


def test_the_command_checks_without_writing(tmp_path: Path) -> None:
    (tmp_path / "catalog.toml").write_text(FILES, encoding="utf-8")
    said = io.StringIO()
    call_command("load_catalog", "--check", folder=tmp_path, stdout=said)
    assert "2 models, 1 aliases: no problems." in said.getvalue()
    assert not Model.objects.exists()
    (tmp_path / "catalog.toml").write_text(FILES.replace('input = "1"', "input = 1.5"), encoding="utf-8")
    with pytest.raises(CommandError, match=r'models\."?chatty'):
        call_command("load_catalog", "--check", folder=tmp_path)
