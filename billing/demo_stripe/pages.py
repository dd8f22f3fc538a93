"""What a person sees of the stand-in: the pay page and a receipt. Marked as a demo, no script, everything escaped."""

from __future__ import annotations

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
    ("late_success", "Bank debit succeeds later", "Processing for a few seconds, then paid."),
    ("late_failure", "Bank debit fails later", "Processing for a few seconds, then refused."),
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
<div><dt>$product</dt><dd>$amount</dd></div>
<div><dt>Tax</dt><dd>$$0.00</dd></div>
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


def pay(session: Object, *, product: str, error: str) -> str:
    """The pay page of an open session; ``error`` is why the last attempt did not work."""
    email = session["customer_email"]
    cancel = session["cancel_url"]
    content = _PAY.substitute(
        amount=escape(money(session["amount_total"], session["currency"])),
        product=escape(product),
        email=f'<p class="quiet">The receipt goes to {escape(email)}.</p>' if email else "",
        alert=f'<p class="alert" role="alert">{escape(error)}</p>' if error else "",
        choices="\n".join(_choice(*one, chosen=one[0] == "success") for one in _CHOICES),
        cancel=f'<a class="cancel" href="{escape(with_session(cancel, session))}">Cancel and go back</a>'
        if cancel
        else "",
    )
    return _FRAME.substitute(title="Pay", content=content)


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


def receipt(charge: Object) -> str:
    """A receipt that says of itself that it is none."""
    details = charge["payment_method_details"]
    method = "Bank debit" if details["type"] == "us_bank_account" else "Card"
    last4 = (details["us_bank_account"] or details["card"])["last4"]
    rows = (
        ("Amount", money(charge["amount"], charge["currency"])),
        ("For", charge["description"] or "—"),
        ("Paid by", f"{method} ending in {last4}"),
        ("Date", datetime.fromtimestamp(charge["created"], UTC).strftime("%d %B %Y, %H:%M UTC")),
        ("State", charge["status"]),
        ("Number", charge["id"]),
    )
    listed = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in rows)
    content = f'<section class="panel"><h1>Demo receipt</h1><p>No money changed hands.</p><dl>{listed}</dl></section>'
    return _FRAME.substitute(title="Receipt", content=content)


def nothing_here() -> str:
    """The 404 page."""
    content = '<section class="panel"><h1>There is nothing at this address.</h1></section>'
    return _FRAME.substitute(title="Not found", content=content)


def with_session(url: str, session: Object) -> str:
    """A return address with the session's id in its place."""
    return url.replace(PLACEHOLDER, session["id"])
