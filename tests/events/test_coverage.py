"""Every management write leaves its row: who, what, from where, in which request (C-ORG-7)."""

from __future__ import annotations

import json

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.core.cache import cache
from django.test import Client
from django.urls import path
from unfold.sites import UnfoldAdminSite

from accounts.models import User
from catalog.models import Provider
from events.admin import AuditedAdmin
from events.models import AuditEvent
from hypereal_site import urls
from tests import factories
from tests.accounts.front_door import Browser, sign_in

pytestmark = pytest.mark.django_db

#: Nothing in the operators' admin is deleted many at once: what its tables keep to is tried on one that isn't there.
bulk = UnfoldAdminSite(name="bulk")
bulk.register(Group, AuditedAdmin)
urlpatterns = [path("bulk/", bulk.urls), *urls.urlpatterns]


@pytest.fixture(autouse=True)
def quiet() -> None:
    cache.clear()


@pytest.fixture
def operator() -> Client:
    client = Client(REMOTE_ADDR="192.0.2.9")
    client.force_login(User.objects.create_superuser("root@people.example", factories.PASSWORD))
    return client


def events(action: str) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(action=action).order_by("id"))


def test_an_operator_s_edit_of_the_catalog_names_fields_and_no_secret(operator: Client) -> None:
    acme = Provider.objects.create(slug="acme", name="Acme", adapter="openai", base_url="https://api.acme.example/v1")
    form = {
        "slug": "acme", "name": "Acme", "adapter": "openai", "base_url": "https://other.acme.example/v1",
        "kinds": '["chat"]', "enabled": "on", "new_secret": "sk-live-secret", "secret_env": "", "options": "{}",
        "price_factor_basis_points": "10000",
    }  # fmt: skip
    answer = operator.post(f"/admin/catalog/provider/{acme.pk}/change/", form)
    assert answer.status_code == 302, answer.context["errors"]
    [event] = events("operator.change")
    assert (event.actor_label, event.address) == ("root@people.example", "192.0.2.9")
    assert (event.target_type, event.target_id) == ("provider", str(acme.pk))
    assert str(event.request_id) == answer["x-request-id"]
    assert "Base URL" in event.details["changed"]
    assert "sk-live-secret" not in json.dumps(event.details)


def test_giving_back_to_the_files_is_recorded_row_by_row(operator: Client) -> None:
    for slug in ("one", "two"):
        Provider.objects.create(slug=slug, name=slug, adapter="openai", base_url="https://a.example", managed=False)
    chosen = [str(pk) for pk in Provider.objects.filter(slug__in=["one", "two"]).values_list("pk", flat=True)]
    operator.post("/admin/catalog/provider/", {"action": "give_back", "_selected_action": chosen})
    assert sorted(event.target_id for event in events("operator.change")) == sorted(chosen)


@pytest.mark.urls(__name__)
def test_deleting_many_at_once_is_recorded_row_by_row(operator: Client) -> None:
    chosen = [str(Group.objects.create(name=name).pk) for name in ("one", "two", "three")]
    form = {"action": "delete_selected", "_selected_action": chosen}
    assert operator.post("/bulk/auth/group/", form).status_code == 200  # it asks first
    assert events("operator.delete") == []
    assert operator.post("/bulk/auth/group/", {**form, "post": "yes"}).status_code == 302
    rows = events("operator.delete")
    assert not Group.objects.exists()
    assert sorted((row.target_id, row.target_label) for row in rows) == sorted(
        zip(chosen, ("one", "two", "three"), strict=True)
    )
    assert {(row.actor_label, row.address) for row in rows} == {("root@people.example", "192.0.2.9")}


@pytest.mark.urls(__name__)
def test_a_deletion_of_many_that_fails_leaves_no_row(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [str(Group.objects.create(name=name).pk) for name in ("one", "two")]

    def fails(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(AuditedAdmin, "delete_queryset", fails)
    operator.raise_request_exception = False
    form = {"action": "delete_selected", "_selected_action": chosen, "post": "yes"}
    assert operator.post("/bulk/auth/group/", form).status_code == 500
    assert events("operator.delete") == []
    assert Group.objects.count() == 2


def test_no_table_of_the_admin_goes_past_the_trail() -> None:
    without_rows = {"django_rq.Dashboard"}
    past = {model._meta.label for model, table in admin.site._registry.items() if not isinstance(table, AuditedAdmin)}
    assert past == without_rows


def test_the_side_bar_speaks_to_operators(operator: Client) -> None:
    page = operator.get("/admin/").content.decode()
    assert "Background work" in page
    assert "Queues" in page
    for name in ("Django_Rq", "Django-RQ", "Groups"):
        assert name not in page
    assert operator.get("/admin/auth/group/").status_code == 404
    assert operator.get("/admin/django_rq/dashboard/").status_code == 200


def test_a_refused_edit_leaves_no_row(operator: Client) -> None:
    assert operator.post("/admin/catalog/provider/add/", {"slug": "acme"}).status_code == 200
    assert events("operator.add") == []


def test_signing_in_out_and_failing_to() -> None:
    person = factories.user("sana@people.example")
    browser = Browser(REMOTE_ADDR="192.0.2.10")
    sign_in(browser, person.email, "wrong wrong wrong")
    sign_in(browser, "nobody@people.example", "wrong wrong wrong")
    sign_in(browser, person.email)
    browser.post("/accounts/logout/")
    rows = AuditEvent.objects.filter(action__startswith="user.sign").order_by("id")
    assert [(row.action, row.actor_label, row.target_label, row.address) for row in rows] == [
        ("user.sign_in_failed", "anonymous", person.email, "192.0.2.10"),
        ("user.sign_in_failed", "anonymous", "", "192.0.2.10"),
        ("user.sign_in", person.email, person.email, "192.0.2.10"),
        ("user.sign_out", person.email, person.email, "192.0.2.10"),
    ]
    assert all(row.request_id for row in rows)


def test_one_s_own_activity_shows_what_happened_to_one_s_account() -> None:
    person, other = factories.user("sana@people.example"), factories.user("omar@people.example")
    for one in (person, other):
        browser = Browser()
        sign_in(browser, one.email, "wrong wrong wrong")
        sign_in(browser, one.email)
    text = browser.get("/settings/account/activity").content.decode()
    assert "user.sign_in_failed" in text
    assert other.email in text
    assert person.email not in text
