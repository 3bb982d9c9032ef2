"""A stateful fake of the Stripe API over HTTP, for local development and tests.

Run it with ``python -m stripe_simulator --port 8001``, or inside a test::

    with running_simulator() as simulator:
        stripe.StripeClient("sk_test_x", base_addresses={"api": simulator.url})

It stores customers, products, prices, Checkout Sessions, Customer Portal sessions, subscriptions, invoices, events and
webhook endpoints. Its clock follows real time until a test advances it. Renewals, trial ends, dunning and expiry run
when they are due. An operation or parameter that Stripe has and the simulator lacks returns the error
``not_simulated``.

Module map
----------

Core: no HTTP, no threads.

=======================  =============================================================================================
module                   purpose
=======================  =============================================================================================
state                    objects, clock, events and account settings
scheduler                run due work when the clock advances: renewals, trial ends, dunning, expiry
subscriptions            subscription lifecycle: start, renew, pause collection, resume, end a trial
subscription_changes     changes of price or quantity within a period, with prorations
schedules                subscription schedules: phases that begin in the future
dunning                  effect of payments on subscriptions: activation, retries, cancellation
invoices                 invoice lifecycle: draft, open, paid, void, uncollectible
items                    subscription items and the invoice lines that they produce
periods                  end dates of billing periods
cards                    test cards and the result of charging them
checkout                 Checkout Sessions and their hosted page
portal                   actions of the Customer Portal
objects, default_fields  new objects with every field of the current API version
errors                   Stripe's errors
=======================  =============================================================================================

API: from an HTTP request to a response.

=======================  =============================================================================================
module                   purpose
=======================  =============================================================================================
api                      authentication, idempotency, execution, error responses
resources/               API operations, one module for each resource
routing                  routes, pagination and shared parameter helpers
parameters               parsing and validation of form-encoded parameters
expansion                ``expand[]``
idempotency              stored responses of the last 24 hours
response_validation      validation of every object against the SDK's resource classes
sdk_types                reading the SDK's type annotations
sdk_operations           every method and path of the SDK, to recognize operations that are not simulated
=======================  =============================================================================================

Server: everything else on the port.

=======================  =============================================================================================
module                   purpose
=======================  =============================================================================================
server                   HTTP server and ``running_simulator()``
pages, templates/        hosted pages: Checkout, Customer Portal, invoice
invoice_pdf              PDF of an invoice
webhooks                 signed webhook deliveries with retries
control, faults          control surface and injected faults
__main__                 command line
=======================  =============================================================================================

Control surface
---------------

Requests and responses are JSON. All fields of a request body are optional unless the table says otherwise.

=======  =============================  ==============================================================================
method   path under /_simulator/        request body and effect
=======  =============================  ==============================================================================
GET      health                         Return the status and the API version.
POST     reset                          ``{"seed": 1, "draft_seconds": 0, "retry_days": [3, 5, 7],
                                        "after_dunning": "canceled|unpaid|past_due", "api_key": "sk_test_x"}``
                                        Delete all data. The fields change settings.
GET      clock                          Return ``{"now", "offset_seconds"}``.
POST     clock                          ``{"advance_seconds": 2678400}`` (required)
                                        Advance the clock and run everything that is due before responding.
GET      delivery                       Return the delivery mode and the number of waiting and held deliveries.
POST     delivery                       ``{"copies": 2, "shuffle": true, "delay_seconds": 0.5, "paused": true}``
                                        Set the delivery mode. ``{}`` restores the default.
POST     delivery/flush                 Send the deliveries held by ``paused``.
POST     delivery/redeliver             Send every event again that an endpoint has not acknowledged.
POST     delivery/drain                 ``{"deadline_seconds": 30}``
                                        Wait until no delivery is in progress.
GET      deliveries                     Return every attempt: ``{"data": [{"event", "type", "endpoint", "url",
                                        "attempt", "status", "error"}]}``. ``?type=…`` filters by any of the fields.
POST     events/{id}/resend             Deliver an event again.
POST     customers/{id}/payment_method  ``{"card": "success|declined|requires_action"}`` (required)
                                        Set the result of all further charges to the customer's cards.
GET      calls                          Return the number of API calls for each operation, failed calls included:
                                        ``{"data": {"GET /v1/subscriptions/{}": 3}}``.
GET      faults                         Return the remaining faults.
POST     faults                         ``{"match": {"method", "path_prefix"}, "count": 1, "kind": "status:500|
                                        status:429|timeout|reset|nonsense|slow:SECONDS|date:SECONDS",
                                        "when": "before|after", "stored": true,
                                        "code": "api_key_expired"}`` (``kind`` is required)
                                        Add a fault before or after the operation takes effect. ``stored`` stores the
                                        error under the idempotency key, which replays it for 24 hours. ``code`` is
                                        Stripe's code in the error of ``status:N``.
DELETE   faults                         Remove all faults.
POST     checkout/{session}             ``{"outcome": "pay|decline|requires_action|abandon"}`` (required),
                                        ``"email"``. Submit the Checkout page.
                                        ``"authenticated": true`` completes 3-D Secure.
=======  =============================  ==============================================================================
"""

from stripe_simulator.server import Simulator, running_simulator
from stripe_simulator.state import SimulatorSettings

__all__ = ["Simulator", "SimulatorSettings", "running_simulator"]
