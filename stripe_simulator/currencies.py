"""Currencies that Stripe supports: https://docs.stripe.com/currencies."""

from stripe_simulator.errors import InvalidRequest

# ISK and UGX have no minor unit but amounts with two decimals.
ZERO_DECIMAL_CURRENCIES = frozenset(
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"]
)
THREE_DECIMAL_CURRENCIES = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
TWO_DECIMAL_CODES = """
usd aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd bwp byn bzd cad cdf chf cny cop crc cve
czk dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gtq gyd hkd hnl hrk htg huf idr ils inr isk jmd kes kgs khr kyd kzt
lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop mro mru mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd pab pen pgk php pkr
pln qar ron rsd rub sar sbd scr sek sgd shp sle sll sos srd std szl thb tjs top try ttd twd tzs uah ugx uyu uzs wst xcd
yer zar zmw
"""
SUPPORTED_CURRENCIES = ZERO_DECIMAL_CURRENCIES | {*TWO_DECIMAL_CODES.split()} | THREE_DECIMAL_CURRENCIES


def require_known_currency(currency: str) -> None:
    """Require a currency code of Stripe's list, in any case.

    Raises:
        InvalidRequest: The list does not contain the code.
    """
    if currency.lower() not in SUPPORTED_CURRENCIES:
        raise InvalidRequest(
            f"Invalid currency: {currency.lower()}. Stripe currently supports these currencies: "
            f"{', '.join(sorted(SUPPORTED_CURRENCIES))}",
            param="currency",
        )
