"""Domains: what may be claimed, how it is proven, and how it is lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from core import clock, errors
from events import audit
from events.models import AuditEvent
from orgs.models import Workspace
from sso import domains, maintenance, proofs, routing
from sso.models import OrgDomain, SsoConnection
from tests import cast, factories
from tests.fakes.dns import NameServer
from tests.fakes.oidc import OidcProvider
from tests.sso import company

pytestmark = pytest.mark.django_db


@pytest.fixture
def names(settings: Any) -> Iterator[NameServer]:
    server = NameServer()
    settings.DNS_RESOLVER = server.address
    yield server
    server.stop()


@pytest.fixture
def acme() -> Workspace:
    return factories.organization("Acme")


@pytest.fixture
def row(acme: Workspace, no_file: None) -> OrgDomain:
    return domains.claim(acme, "acme.example", by=audit.SYSTEM)


@pytest.fixture
def no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves for acme.example's web site."""
    monkeypatch.setattr("sso.proofs._lines", lambda url: [])


def publish(names: NameServer, row: OrgDomain, *texts: str) -> None:
    names.records["_hypereal-challenge.acme.example"] = list(texts) or [proofs.expected(row.token)]


# ── Claims ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("text", "name"),
    [("Acme.Example", "acme.example"), (" acme.example. ", "acme.example"), ("straße.de", "xn--strae-oqa.de"),
     ("a-b.co.uk", "a-b.co.uk"), ("例え.jp", "xn--r8jz45g.jp")],
    ids=["case", "blanks and dot", "sharp s", "hyphen", "japanese"],
)  # fmt: skip
def test_names_are_put_in_one_form(text: str, name: str) -> None:
    assert domains.normalize(text) == name


@pytest.mark.parametrize(
    "text",
    ["", ".", "localhost", "10.0.0.1", "[::1]", "a..b", "-a.example", "a.example-", "sana@acme.example", "a b.example",
     "a/b.example", "https://acme.example", "*.example", "x" * 64 + ".example", "a." * 130 + "example", "a\x00.example",
     "_dmarc.example", "acme.example:443"],
)  # fmt: skip
def test_what_is_no_domain(text: str, acme: Workspace) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        domains.claim(acme, text, by=audit.SYSTEM)
    assert refused.value.param == "domain"


@pytest.mark.parametrize("text", ["gmail.com", "GMAIL.com", "qq.com", "t-online.de", "mail.gmail.com", "163.com"])
def test_public_mail_is_nobody_s(text: str, acme: Workspace) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        domains.claim(acme, text, by=audit.SYSTEM)
    assert refused.value.code == "public_domain"


# ── Proofs ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_record_proves(names: NameServer, row: OrgDomain) -> None:
    publish(names, row, "v=spf1 -all", proofs.expected(row.token))
    assert domains.prove(row, by=audit.SYSTEM).method == "dns"
    row.refresh_from_db()
    assert row.verified_at is not None
    assert row.method == "dns"
    assert names.asked == ["_hypereal-challenge.acme.example"]
    assert AuditEvent.objects.filter(action="domain.verify", details={"method": "dns"}).exists()


@pytest.mark.parametrize("case", ["none", "empty", "other", "in part", "longer", "at the domain itself"])
def test_anything_else_does_not(names: NameServer, row: OrgDomain, case: str) -> None:
    right = proofs.expected(row.token)
    texts = {"other": ["something"], "in part": [right[:-1]], "longer": [right + "x"], "empty": []}.get(case)
    if case == "at the domain itself":
        names.records["acme.example"] = [right]
    elif texts is not None:
        names.records["_hypereal-challenge.acme.example"] = texts
    outcome = domains.prove(row, by=audit.SYSTEM)
    assert (outcome.method, outcome.answered) == (None, True)
    assert outcome.message
    row.refresh_from_db()
    assert row.verified_at is None
    assert row.checked_at is not None


@pytest.mark.parametrize("fault", ["silent", "broken"])
def test_a_name_server_in_trouble_says_nothing(
    names: NameServer, row: OrgDomain, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sso.proofs.DNS_SECONDS", 0.5)
    getattr(names, fault).add("_hypereal-challenge.acme.example")
    outcome = domains.prove(row, by=audit.SYSTEM)
    assert (outcome.method, outcome.answered) == (None, False)


def test_a_file_proves(names: NameServer, acme: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    row = domains.claim(acme, "acme.example", by=audit.SYSTEM)
    asked = []

    def lines(url: str) -> list[str]:
        asked.append(url)
        return [proofs.expected(row.token)]

    monkeypatch.setattr("sso.proofs._lines", lines)
    assert domains.prove(row, by=audit.SYSTEM).method == "file"
    assert asked == ["https://acme.example/.well-known/hypereal-domain-verification.txt"]


def test_two_organizations_and_one_domain(names: NameServer, row: OrgDomain) -> None:
    publish(names, row)
    rival = domains.claim(factories.organization("Rival"), "acme.example", by=audit.SYSTEM)
    domains.prove(row, by=audit.SYSTEM)
    publish(names, rival)
    with pytest.raises(errors.Conflict) as refused:
        domains.prove(rival, by=audit.SYSTEM)
    assert refused.value.code == "domain_held"
    domains.remove(row, by=audit.SYSTEM)
    assert domains.prove(rival, by=audit.SYSTEM).method == "dns"


def test_the_database_itself_lets_one_hold_it(row: OrgDomain) -> None:
    from django.db import IntegrityError, transaction

    OrgDomain.objects.filter(pk=row.pk).update(verified_at=clock.now())
    with pytest.raises(IntegrityError), transaction.atomic():
        company.domain(factories.organization("Rival"))


# ── By itself ────────────────────────────────────────────────────────────────────────────────────────────────────────
def day_after(row: OrgDomain) -> None:
    OrgDomain.objects.filter(pk=row.pk).update(checked_at=clock.now() - timedelta(days=1, minutes=1))


def test_a_proof_that_is_gone_for_three_days_is_lost(names: NameServer, row: OrgDomain, provider: OidcProvider) -> None:
    publish(names, row)
    domains.prove(row, by=audit.SYSTEM)
    company.oidc(provider, row.workspace)
    assert maintenance.sweep() == 0, "not due yet"
    names.records.clear()
    for lost in (0, 0, 1):
        assert routing.connection_for("sana@acme.example") is not None
        day_after(row)
        assert domains.recheck() == lost
    assert routing.connection_for("sana@acme.example") is None
    assert AuditEvent.objects.filter(action="domain.lose").exists()


def test_a_proof_that_comes_back_counts_anew(names: NameServer, row: OrgDomain) -> None:
    publish(names, row)
    domains.prove(row, by=audit.SYSTEM)
    for present in (False, False, True, False, False):
        names.records.clear()
        if present:
            publish(names, row)
        day_after(row)
        assert domains.recheck() == 0
    row.refresh_from_db()
    assert (row.verified_at is None, row.failures) == (False, 2)


def test_one_that_can_not_be_looked_for_holds_up_no_other_and_no_look_undoes_what_came_meanwhile(
    names: NameServer, row: OrgDomain, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given_up, confirmed, lost = (company.domain(row.workspace, f"{name}.example") for name in ("up", "con", "lost"))
    rows = [row, given_up, confirmed, lost]
    OrgDomain.objects.filter(pk__in=[one.pk for one in rows]).update(
        verified_at=clock.now(), method=OrgDomain.Method.DNS, failures=domains.FAILURES_UNTIL_LOST - 1
    )
    for hours, one in enumerate(reversed(rows)):
        OrgDomain.objects.filter(pk=one.pk).update(checked_at=clock.now() - timedelta(days=2, hours=-hours))

    def look(domain: str, token: str) -> proofs.Outcome:
        if domain == row.domain:
            raise RuntimeError("a bug")
        if domain == given_up.domain:
            domains.remove(given_up, by=audit.SYSTEM)
        if domain == confirmed.domain:
            domains.confirm(row.workspace, confirmed.domain, by=audit.SYSTEM)
        return proofs.Outcome(None, answered=True)

    monkeypatch.setattr("sso.proofs.look", look)
    assert domains.recheck() == 1
    assert [record.domain for record in caplog.records if hasattr(record, "domain")] == [row.domain]
    proven = set(OrgDomain.objects.filter(verified_at__isnull=False).values_list("domain", "method"))
    assert proven == {(row.domain, "dns"), (confirmed.domain, "operator")}
    assert not OrgDomain.objects.filter(pk=given_up.pk).exists()
    # Who looks by hand at what is given up during the look, or twice at once, hears of it in words.
    monkeypatch.setattr("sso.proofs.look", lambda *_: proofs.Outcome(OrgDomain.Method.DNS, answered=True))
    with pytest.raises(errors.NotFound):
        domains.prove(given_up, by=audit.SYSTEM)
    with pytest.raises(errors.NotFound):
        domains.remove(given_up, by=audit.SYSTEM)
    first, second = (OrgDomain.objects.get(pk=lost.pk) for _ in range(2))
    domains.prove(first, by=audit.SYSTEM)
    domains.prove(second, by=audit.SYSTEM)
    assert second.verified_at == first.verified_at
    assert AuditEvent.objects.filter(action="domain.verify", target_id=str(lost.pk)).count() == 1


def test_a_name_server_in_trouble_takes_nothing_away(
    names: NameServer, row: OrgDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(names, row)
    domains.prove(row, by=audit.SYSTEM)
    monkeypatch.setattr("sso.proofs.DNS_SECONDS", 0.5)
    names.broken.add("_hypereal-challenge.acme.example")
    for _ in range(4):
        day_after(row)
        assert domains.recheck() == 0
    row.refresh_from_db()
    assert row.failures == 0


# ── The operator ─────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("by", ["slug", "pk"])
def test_the_operator_s_word(acme: Workspace, by: str, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("verify_domain", str(getattr(acme, by)), "Acme.example")
    assert "acme.example belongs to Acme" in capsys.readouterr().out
    row = OrgDomain.objects.get()
    assert row.verified_at is not None
    assert row.method == "operator"
    assert AuditEvent.objects.get(action="domain.verify").actor_label == "operator: verify_domain"
    OrgDomain.objects.update(checked_at=clock.now() - timedelta(days=9))
    assert domains.recheck() == 0, "nothing to look for"


def test_the_operator_is_told_what_is_wrong(acme: Workspace) -> None:
    personal = factories.user().personal_workspace
    for workspace, domain in (("nobody", "acme.example"), (personal.slug, "acme.example"), (acme.slug, "gmail.com")):
        with pytest.raises(CommandError):
            call_command("verify_domain", workspace, domain)
    company.domain(factories.organization("Rival"))
    with pytest.raises(CommandError, match="belongs to another organization"):
        call_command("verify_domain", acme.slug, "acme.example")
    assert not OrgDomain.objects.filter(workspace=acme).exists()


# ── Pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_page_leads_to_a_proof(names: NameServer, no_file: None) -> None:
    people = cast.assemble()
    admin: Client = people.client("admin")
    home = "/settings/organization/domains"
    answer = admin.post(home, {"domain": "Acme.example"})
    row = OrgDomain.objects.get()
    assert answer["Location"] == f"{home}#domain-{row.pk}"
    page = admin.get(home).content.decode()
    assert "_hypereal-challenge.acme.example" in page
    assert proofs.expected(row.token) in page
    assert "no such record yet" in admin.post(f"{home}/{row.pk}/verify", follow=True).content.decode()
    publish(names, row)
    assert "acme.example is proven." in admin.post(f"{home}/{row.pk}/verify", follow=True).content.decode()
    assert admin.post(home, {"domain": "gmail.com"}).status_code == 422


def test_a_domain_is_routed_to_a_connection_of_the_same_organization_only(provider: OidcProvider) -> None:
    people = cast.assemble()
    admin: Client = people.client("admin")
    row = company.domain(people.organization)
    mine, foreign = company.oidc(provider, people.organization), company.oidc(provider, factories.organization("Other"))
    path = f"/settings/organization/domains/{row.pk}/route"
    admin.post(path, {"connection": foreign.provider_id})
    row.refresh_from_db()
    assert row.connection is None
    second = company.oidc(provider, people.organization)
    page = admin.get("/settings/organization/domains").content.decode()
    seen = page.split('name="seen" value="')[1].split('"')[0]
    for _click in range(2):
        answer = admin.post(path, {"connection": mine.provider_id, "seen": seen}, follow=True)
        assert "Somebody changed this" not in answer.content.decode()
    assert AuditEvent.objects.filter(action="domain.route", target_id=str(row.pk)).count() == 1
    # Somebody else's page still shows what was before.
    answer = people.client("owner").post(path, {"connection": second.provider_id, "seen": seen}, follow=True)
    assert "Somebody changed this" in answer.content.decode()
    row.refresh_from_db()
    assert row.connection == mine
    SsoConnection.objects.filter(pk=mine.pk).delete()
    row.refresh_from_db()
    assert row.connection is None
