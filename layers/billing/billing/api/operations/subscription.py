"""GET subscription: plan and subscription status of an account."""

from billing.api.declaration import (
    TIME,
    DeploymentValues,
    OperationDeclaration,
    boolean,
    integer,
    nullable,
    object_of,
    string,
)

SUBSCRIPTION = OperationDeclaration(
    name="subscription",
    operation_id="getSubscription",
    summary="Get the subscription",
    description="Returns the account's plan and subscription status. "
    "If no subscription grants a plan, the account is on the free plan.",
    response=object_of(
        {
            "plan": string("Plan of the account.", **DeploymentValues.PLANS.keyword),
            "status": nullable(string("Stripe's status of the subscription; null if there never was one.")),
            "member_count": integer("Number of members of the account.", minimum=0),
            "current_period_end": nullable(
                string("End of the current billing period; null if there never was a subscription.", **TIME)
            ),
            "cancel_at_period_end": nullable(
                boolean("True if the subscription is set to end; null if there never was one.")
            ),
        }
    ),
)
