"""The stand's database, from inside the product: ``python -m bench.database seed UPSTREAM_PORT`` or ``… books``.

Everything is made through the functions that the product itself uses: tables by migration, the workspace by a sign-up,
its credits by the ledger, the key by issuing it, the models' prices by publishing them.
"""

from __future__ import annotations

import argparse
import sys
from typing import Final

import msgspec

from bench import ready as _ready  # noqa: F401  (Django must stand before all that needs it)

# isort: split
from django.core.management import call_command
from django.db.models import Sum

from accounts.models import User
from bench.books import Books
from bench.formats import CHAT, OTHERS, Format
from bench.prices import CALL_MICROCREDITS, MODELS, MODELS_OF_OTHERS, RATES
from billing import ledger
from billing.models import HOUSE_ACCOUNTS, Account, CreditLot, Hold, Transfer
from catalog import prices
from catalog.models import Model, Provider, Target
from core import clock, ids
from core.money import MICROCREDITS_PER_CREDIT
from events import audit
from keys import issuing
from orgs.models import Workspace
from usage import verify
from usage.models import RequestLog

#: More than any run can use; the key's monthly limit is as high, so that it is checked and never refuses.
AMPLE_MICROCREDITS: Final = 1_000_000_000 * MICROCREDITS_PER_CREDIT
_ACTOR: Final = audit.operator("bench")


def seed(upstream_port: int) -> str:
    """Migrate, load the catalog as production has it, add the measured models and a payer. Returns a key's secret."""
    call_command("migrate", verbosity=0, interactive=False)
    call_command("load_catalog", verbosity=0)
    for pace, slug in MODELS.items():
        _add_model(slug, CHAT, f"http://127.0.0.1:{upstream_port}/hypereal/{pace}/v1")
    for form in OTHERS:
        _add_model(MODELS_OF_OTHERS[form.name], form, f"http://127.0.0.1:{upstream_port}/hypereal/fast/v1")
    user = User.objects.create_user("bench@example.com", None)
    workspace: Workspace = user.personal_workspace
    ledger.grant(
        workspace.pk,
        kind=CreditLot.Kind.DEMO,
        amount_microcredits=AMPLE_MICROCREDITS,
        transfer_kind=Transfer.Kind.GRANT,
        reference=ids.uuid7(),
        source_account=HOUSE_ACCOUNTS[Account.Kind.DEMO],
        at=clock.now(),
    )
    terms = issuing.Terms(name="bench", spending_limit_microcredits=AMPLE_MICROCREDITS)
    return issuing.create(workspace, terms, actor=_ACTOR, created_by=user).secret


def read_books() -> Books:
    """Read the log and run the product's own proof."""
    log = RequestLog.objects.all()
    as_expected = log.filter(status=200, estimated=False, late=False, charged_microcredits=CALL_MICROCREDITS)
    rows = log.count()
    return Books(
        log_rows=rows,
        odd_rows=rows - as_expected.count(),
        charged_microcredits=int(log.aggregate(total=Sum("charged_microcredits"))["total"] or 0),
        open_holds=Hold.objects.filter(state=Hold.State.PENDING).count(),
        findings=[f"not so: {finding.check.claim} ({finding.wrong} rows)" for finding in verify.verify().findings],
    )


def _add_model(slug: str, form: Format, base_url: str) -> None:
    provider = Provider(slug=slug, name=slug, adapter=form.adapter, base_url=base_url, kinds=[form.kind])
    provider.set_secret("sk-bench")
    provider.save()
    model = Model.objects.create(slug=slug, name=slug, vendor=provider, endpoints=[form.kind], max_output_tokens=4096)
    Target.objects.create(model=model, provider=provider, upstream_model=slug, position=0)
    prices.publish(model, RATES, list_rates=RATES, factor_basis_points=10_000)


def main() -> None:
    """The result is the last line of the output."""
    parser = argparse.ArgumentParser(prog="python -m bench.database", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("seed").add_argument("upstream_port", type=int)
    commands.add_parser("books")
    chosen = parser.parse_args()
    result = seed(chosen.upstream_port) if chosen.command == "seed" else msgspec.json.encode(read_books()).decode()
    sys.stdout.write(result + "\n")


if __name__ == "__main__":
    main()
