"""A stateful fake of Stripe that speaks HTTP like ``api.stripe.com``, for a laptop and for tests.

Run it with ``python -m stripe_simulator --port 8001``, or inside a test::

    with running_simulator() as simulator:
        stripe.StripeClient("sk_test_x", base_addresses={"api": simulator.url})

It keeps customers, products, prices, checkout sessions, the customer portal, subscriptions, invoices, events and
webhook endpoints. Time is real until it is moved; renewals, ends of trials, dunning and expiry happen as it passes.
What it does not simulate it refuses aloud (``not_simulated``).

The control surface, all JSON:

=======  ============================================  ================================================================
method   path under /_simulator/                       body → what it does
=======  ============================================  ================================================================
GET      health                                        is it there?
POST     reset                                         forget everything; ``{"seed": 1, "draft_seconds": 0,
                                                       "retry_days": [3, 5, 7], "after_dunning":
                                                       "canceled|unpaid|past_due"}``, each optional, changes settings
GET      clock                                         ``{"now", "offset_seconds"}``
POST     clock                                         ``{"advance_seconds": 2678400}`` → everything due by then has
                                                       happened when it answers
GET      delivery                                      the mode, and how many deliveries are under way or held
POST     delivery                                      ``{"copies": 2, "shuffle": true, "delay_seconds": 0.5,
                                                       "paused": true}``, each optional; ``{}`` is normal again
POST     delivery/flush                                release what ``paused`` holds
POST     delivery/redeliver                            send every event again that an endpoint has not acknowledged
POST     delivery/drain                                ``{"deadline_seconds": 30}`` → wait until nothing is under way
GET      deliveries                                    every attempt: ``{"data": [{"event", "type", "endpoint", "url",
                                                       "attempt", "status", "error"}]}``; ``?type=…`` filters
POST     events/{id}/resend                            deliver an event again
POST     customers/{id}/payment_method                 ``{"card": "success|declined|requires_action"}`` → from now on
                                                       the customer's card behaves so
GET      calls                                         how often each operation of the API was called, failing calls
                                                       too: ``{"data": {"GET /v1/subscriptions/{}": 3}}``
GET      faults                                        the faults to come
POST     faults                                        ``{"match": {"method", "path_prefix"}, "count": 1, "kind":
                                                       "status:500|status:429|timeout|reset|nonsense|slow:SECONDS",
                                                       "when": "before|after"}`` → before or after the call took effect
DELETE   faults                                        forget them
POST     checkout/{session}                            ``{"outcome": "pay|decline|requires_action|abandon"}`` → as on
                                                       the page; ``"authenticated": true`` completes 3-D Secure
=======  ============================================  ================================================================
"""

from stripe_simulator.server import Simulator, running_simulator
from stripe_simulator.world import Settings

__all__ = ["Settings", "Simulator", "running_simulator"]
