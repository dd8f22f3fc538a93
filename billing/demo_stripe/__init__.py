"""The demo's stand-in for Stripe: a small server that behaves like the parts of Stripe this product uses.

NO CARD IS EVER CHARGED HERE. It exists so that a fresh machine and the tests can top up without a Stripe account. It
keeps state, refuses what Stripe would refuse, and signs its webhooks with Stripe's own library. It knows nothing of
Django and is never imported by the product: the product speaks to it over HTTP, as it does to Stripe.
"""
