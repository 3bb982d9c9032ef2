"""Account contract: the native API. It serves every operation.

docs/reference/api.md lists its error codes and when each is returned.
"""

from billing.api.contracts.contract import Contract, RequestFields, ResponseFields, Route
from billing.api.contracts.error_table import ErrorRow
from billing.domain import errors

ENDPOINTS = "/v1/billing/webhook-endpoints"
ENDPOINT = f"{ENDPOINTS}/{{endpointId}}"

ACCOUNT = Contract(
    name="account",
    base_path="/v1/billing",
    routes={
        "subscription": Route("GET", "/v1/billing", response=ResponseFields(omit=("member_count",))),
        "checkout": Route(
            "POST",
            "/v1/billing/checkout",
            request=RequestFields(omit=("price_id",), required=("tier",)),
            response=ResponseFields(rename={"url": "checkout_url"}),
        ),
        "portal": Route("POST", "/v1/billing/portal", response=ResponseFields(rename={"url": "portal_url"})),
        "invoices": Route("GET", "/v1/billing/invoices"),
        "usage": Route("GET", "/v1/billing/usage"),
        "record_usage": Route("POST", "/v1/billing/usage"),
        "plans": Route("GET", "/v1/billing/plans"),
        "create_webhook_endpoint": Route("POST", ENDPOINTS),
        "list_webhook_endpoints": Route("GET", ENDPOINTS),
        "get_webhook_endpoint": Route("GET", ENDPOINT),
        "update_webhook_endpoint": Route("PATCH", ENDPOINT),
        "delete_webhook_endpoint": Route("DELETE", ENDPOINT),
        "rotate_webhook_secret": Route("POST", f"{ENDPOINT}/rotate-secret"),
        "send_test_event": Route("POST", f"{ENDPOINT}/test"),
        "list_webhook_deliveries": Route("GET", f"{ENDPOINT}/deliveries"),
        "replay_events": Route("POST", f"{ENDPOINT}/replay"),
        "redeliver": Route("POST", "/v1/billing/deliveries/{deliveryId}/redeliver"),
        "openapi": Route("GET", "/v1/billing/openapi.json"),
        "stripe_webhook": Route("POST", "/v1/billing/webhooks"),
    },
    errors={errors.NoBillingHistory: ErrorRow(400, "NO_STRIPE_CUSTOMER")},
)
