"""Money is an integer number of microcredits; every other form is only for people and wires.

100 credits = 1 USD and 1 credit = 1,000,000 microcredits, so one cent is one credit. Floats never touch an amount.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal, InvalidOperation

MICROCREDITS_PER_CREDIT = 1_000_000
CREDITS_PER_USD = 100
MICROCREDITS_PER_USD = MICROCREDITS_PER_CREDIT * CREDITS_PER_USD
MICROCREDITS_PER_CENT = MICROCREDITS_PER_USD // 100
CREDIT_DECIMALS = 6

#: The largest amount that any single request may name: far above any real one, far below what a BIGINT can add up.
MAX_MICROCREDITS = 10**15


def credits(amount_microcredits: int) -> Decimal:
    """The amount in credits, exact, without trailing zeros (``Decimal('12.5')``)."""
    value = Decimal(amount_microcredits).scaleb(-CREDIT_DECIMALS)
    whole = value.to_integral_value()
    return whole if value == whole else value.normalize()


def credits_text(amount_microcredits: int) -> str:
    """The amount in credits as `credits` prints it, for what is written with each call."""
    whole, rest = divmod(abs(amount_microcredits), MICROCREDITS_PER_CREDIT)
    sign = "-" if amount_microcredits < 0 else ""
    return f"{sign}{whole}.{rest:06}".rstrip("0") if rest else f"{sign}{whole}"


def credits_json(amount_microcredits: int) -> int | float:
    """The amount in credits as a JSON number with at most six decimals.

    A double holds six decimals exactly enough to print them back up to nine thousand million credits; the value is
    for output only and is never read back into an amount.
    """
    whole, rest = divmod(amount_microcredits, MICROCREDITS_PER_CREDIT)
    return whole if not rest else round(amount_microcredits / MICROCREDITS_PER_CREDIT, CREDIT_DECIMALS)


def usd(amount_microcredits: int) -> Decimal:
    """The amount in US dollars, exact."""
    return Decimal(amount_microcredits).scaleb(-CREDIT_DECIMALS) / CREDITS_PER_USD


def parse_credits(value: object) -> int:
    """Microcredits out of a number of credits that came from outside.

    Takes an int, a Decimal, a decimal string, or a float as JSON gives it (read by its shortest decimal form).
    Raises ValueError for anything else: booleans, NaN, more than six decimals, amounts beyond MAX_MICROCREDITS.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError("must be a number of credits")
    try:
        amount = Decimal(str(value).strip())
    except InvalidOperation:
        raise ValueError("must be a number of credits") from None
    if not amount.is_finite() or abs(amount) > MAX_MICROCREDITS:
        raise ValueError("is out of range")
    scaled = amount.scaleb(CREDIT_DECIMALS)
    if scaled != scaled.to_integral_value(rounding=ROUND_DOWN):
        raise ValueError("may have at most six decimals")
    if abs(scaled) > MAX_MICROCREDITS:
        raise ValueError("is out of range")
    return int(scaled)


def from_cents(cents: int) -> int:
    """Microcredits for an amount of US cents, as Stripe counts."""
    return cents * MICROCREDITS_PER_CENT


def round_half_up(numerator: int, denominator: int) -> int:
    """``numerator / denominator`` rounded half up, in integers. Both are non-negative, the denominator positive."""
    if numerator < 0 or denominator <= 0:
        raise ValueError("a charge is never negative")
    return (2 * numerator + denominator) // (2 * denominator)
