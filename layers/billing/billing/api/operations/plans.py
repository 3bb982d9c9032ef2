"""GET plans: list the plans of the catalog."""

from billing.api.declaration import (
    DeploymentValues,
    OperationDeclaration,
    boolean,
    integer,
    list_of,
    map_of,
    nullable,
    object_of,
    string,
)
from billing.domain.credentials import ANY_CREDENTIAL

PLANS = OperationDeclaration(
    name="plans",
    operation_id="listPlans",
    summary="List plans",
    description="Returns the plans of the catalog in ascending order, with prices, features and limits.",
    response=object_of(
        {
            "plans": list_of(
                {
                    "id": string("Plan id.", **DeploymentValues.PLANS.keyword),
                    "name": string("Display name."),
                    "trial_days": integer("Length of the trial in days; one trial per account.", minimum=0),
                    "contact": nullable(string("Contact for a plan without a public price.")),
                    "prices": list_of(
                        {
                            "lookup_key": string("Stripe lookup key of the price."),
                            "unit_amount": integer("Amount per interval in the currency's minor unit.", minimum=0),
                            "currency": string("ISO 4217 currency code in lower case."),
                            "interval": string("Billing interval."),
                            "per_seat": boolean("True if the price applies to each seat."),
                        }
                    ),
                    "features": map_of({"type": ["boolean", "string"]}, "Features of the plan, by name."),
                    "limits": map_of(
                        {"type": ["integer", "null"], "minimum": 0}, "Limits of the plan, by metric; null is unlimited."
                    ),
                }
            )
        }
    ),
    credentials=ANY_CREDENTIAL,
)
