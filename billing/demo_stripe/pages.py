"""What a person sees of the stand-in: the pay page and a receipt. Marked as a demo, no script, everything escaped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from string import Template
from typing import Final

from billing.demo_stripe.objects import Object

STYLE: Final = Path(__file__).with_name("pay.css").read_bytes()
PLACEHOLDER: Final = "{CHECKOUT_SESSION_ID}"

_CHOICES: Final = (
    ("success", "Card payment succeeds", "Paid at once, as with most cards."),
    ("decline", "Card is declined", "You stay on this page and may try again."),
    ("authenticate", "Bank asks for a confirmation", "3-D Secure: the bank's page comes between."),
    ("late_success", "Bank debit succeeds later", "Processing for a few seconds, then paid."),
    ("late_failure", "Bank debit fails later", "Processing for a few seconds, then refused."),
)

#: Beside them where the card is kept: how it behaves when it is charged later, without its owner.
_SAVED: Final = (
    ("success_then_declines", "Card is saved and declines later", "Paid now; automatic top-ups are refused."),
    ("success_then_asks", "Card is saved and asks later", "Paid now; automatic top-ups want a confirmation."),
)

_FRAME: Final = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
<title>$title · Demo payments</title>
<link rel="stylesheet" href="/assets/pay.css">
</head>
<body>
<header class="ribbon">
<p><strong>Demo payments.</strong> No card is charged and no card number is asked for.</p>
</header>
<main>
$content
</main>
<footer>This page stands in for the payment provider's own on a machine that has no account there.</footer>
</body>
</html>
"""
)

_PAY: Final = Template(
    """<section class="order" aria-labelledby="order">
<h1 id="order">Pay Hypereal</h1>
<p class="amount">$amount</p>
<dl>
<div><dt>$product</dt><dd>$subtotal</dd></div>
<div><dt>Tax</dt><dd>$tax</dd></div>
<div class="total"><dt>Total due</dt><dd>$amount</dd></div>
</dl>
$email
</section>
<form method="post" class="panel">
$alert
<fieldset>
<legend>How shall this payment end?</legend>
$choices
</fieldset>
<button type="submit">Pay $amount</button>
$cancel
</form>"""
)


def money(cents: int, currency: str) -> str:
    """An amount for people: ``$10.00``."""
    sign = "$" if currency == "usd" else f"{currency.upper()} "
    return f"{sign}{cents // 100:,}.{cents % 100:02d}"


_CONFIRM: Final = Template(
    """<section class="panel"><h1>Your bank asks: is it you who pays $amount?</h1>
<form method="post"><button type="submit" name="outcome" value="approve">Yes, pay</button></form>
<form method="post"><button type="submit" name="outcome" value="deny">No, it is not me</button></form>
</section>"""
)


def pay(session: Object, *, product: str, error: str, saves: bool) -> str:
    """The pay page of an open session; ``error`` is why the last attempt did not work."""
    email = session["customer_email"]
    tax = session["total_details"]["amount_tax"]
    choices = (*_CHOICES, *_SAVED) if saves else _CHOICES
    cancel = session["cancel_url"]
    content = _PAY.substitute(
        amount=escape(money(session["amount_total"], session["currency"])),
        subtotal=escape(money(session["amount_subtotal"], session["currency"])),
        tax=escape(money(tax, session["currency"])),
        product=escape(product),
        email=f'<p class="quiet">The receipt goes to {escape(email)}.</p>' if email else "",
        alert=f'<p class="alert" role="alert">{escape(error)}</p>' if error else "",
        choices="\n".join(_choice(*one, chosen=one[0] == "success") for one in choices),
        cancel=f'<a class="cancel" href="{escape(with_session(cancel, session))}">Cancel and go back</a>'
        if cancel
        else "",
    )
    return _FRAME.substitute(title="Pay", content=content)


def confirm(session: Object) -> str:
    """The bank's own page, where a card's owner says that it is they who pay."""
    amount = escape(money(session["amount_total"], session["currency"]))
    return _FRAME.substitute(title="Confirm", content=_CONFIRM.substitute(amount=amount))


def _choice(value: str, title: str, note: str, *, chosen: bool) -> str:
    return (
        f'<label class="choice"><input type="radio" name="outcome" value="{value}"{" checked" if chosen else ""}>'
        f"<span><strong>{escape(title)}</strong><small>{escape(note)}</small></span></label>"
    )


def over(session: Object) -> str:
    """What stands where a session can't be paid any more."""
    paid = session["status"] == "complete"
    text = "This payment has been made already." if paid else "This payment page has expired. Nothing was charged."
    url = session["success_url"] if paid else session["cancel_url"]
    link = f'<p><a href="{escape(with_session(url, session))}">Back to Hypereal</a></p>' if url else ""
    return _FRAME.substitute(title="Payment", content=f'<section class="panel"><h1>{text}</h1>{link}</section>')


def receipt(charge: Object, dispute: Object | None) -> str:
    """A receipt that says of itself that it is none, and where the payment can be disputed."""
    details = charge["payment_method_details"]
    method = "Bank debit" if details["type"] == "us_bank_account" else "Card"
    last4 = (details["us_bank_account"] or details["card"])["last4"]
    rows = (
        ("Amount", money(charge["amount"], charge["currency"])),
        ("For", charge["description"] or "—"),
        ("Paid by", f"{method} ending in {last4}"),
        ("Date", datetime.fromtimestamp(charge["created"], UTC).strftime("%d %B %Y, %H:%M UTC")),
        ("State", charge["status"]),
        *((("Refunded", money(charge["amount_refunded"], charge["currency"])),) if charge["amount_refunded"] else ()),
        *((("Dispute", dispute["status"].replace("_", " ")),) if dispute else ()),
        ("Number", charge["id"]),
    )
    listed = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in rows)
    acts = "".join(
        f'<form method="post"><button type="submit" name="act" value="{act}">{text}</button></form>'
        for act, text in _acts(charge, dispute)
    )
    content = (
        f'<section class="panel"><h1>Demo receipt</h1><p>No money changed hands.</p><dl>{listed}</dl>{acts}</section>'
    )
    return _FRAME.substitute(title="Receipt", content=content)


def _acts(charge: Object, dispute: Object | None) -> tuple[tuple[str, str], ...]:
    if dispute is None:
        return (("dispute", "Dispute this payment"),) if charge["status"] == "succeeded" else ()
    if dispute["status"] == "needs_response":
        return (("won", "Let the merchant win"), ("lost", "Let the cardholder win"))
    return ()


def portal(session: Object, cards: Sequence[Object]) -> str:
    """The customer portal: the saved cards, each of which can be removed."""
    rows = "".join(
        f"<div><dt>{escape(one['card']['brand'].title())} ending in {escape(one['card']['last4'])}</dt>"
        f'<dd><form method="post"><button type="submit" name="card" value="{escape(one["id"])}">Remove</button></form>'
        "</dd></div>"
        for one in cards
    )
    listed = f"<dl>{rows}</dl>" if cards else "<p>No saved cards.</p>"
    back = f'<p><a href="{escape(session["return_url"])}">Back to Hypereal</a></p>' if session["return_url"] else ""
    content = f'<section class="panel"><h1>Your cards</h1>{listed}{back}</section>'
    return _FRAME.substitute(title="Customer portal", content=content)


def nothing_here() -> str:
    """The 404 page."""
    content = '<section class="panel"><h1>There is nothing at this address.</h1></section>'
    return _FRAME.substitute(title="Not found", content=content)


def with_session(url: str, session: Object) -> str:
    """A return address with the session's id in its place."""
    return url.replace(PLACEHOLDER, session["id"])
