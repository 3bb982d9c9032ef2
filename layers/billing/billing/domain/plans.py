"""The catalog: plans, their prices and limits, and metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Proration(StrEnum):
    """Billing of a change that a customer makes in the portal, in Stripe's terms."""

    CREATE_PRORATIONS = "create_prorations"
    """The difference is part of the next invoice."""
    ALWAYS_INVOICE = "always_invoice"
    """The difference is invoiced immediately."""
    NONE = "none"
    """The difference is not billed."""


class Downgrades(StrEnum):
    """Time at which a downgrade that a customer makes in the portal takes effect."""

    AT_PERIOD_END = "at_period_end"
    IMMEDIATELY = "immediately"


class MetricKind(StrEnum):
    """Kind of a metric: a counter adds up over a billing period, a gauge states the current number."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """Something whose use is measured and that plans may limit."""

    id: str
    name: str
    kind: MetricKind

    @property
    def is_gauge(self) -> bool:
        """True if measurements set the metric's value instead of adding to it."""
        return self.kind is MetricKind.GAUGE


@dataclass(frozen=True, slots=True)
class Price:
    """A recurring Stripe price.

    Attributes:
        lookup_key: Lookup key of the price in Stripe.
        unit_amount: Amount in the currency's minor unit.
        currency: Three-letter currency code.
        interval: Billing interval in Stripe, for example "month".
        per_seat: True if the amount is for each seat.
        id: Id in Stripe. Only a price without a lookup key in Stripe needs it.
    """

    lookup_key: str
    unit_amount: int
    currency: str
    interval: str
    per_seat: bool = False
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A level of the product.

    Attributes:
        id: Id, for example "pro".
        name: Name on the price page.
        prices: Prices at which checkout sells the plan.
        trial_days: Length of the trial; 0 for none.
        proration: Billing of changes that a customer on this plan makes in the portal; None for the default.
        contact: Address to ask for a price, if checkout does not sell the plan.
        features: Values of features by name.
        limits: Limits by metric. A metric that is not listed is unlimited.
    """

    id: str
    name: str
    prices: tuple[Price, ...] = ()
    trial_days: int = 0
    proration: Proration | None = None
    contact: str | None = None
    features: Mapping[str, bool | str] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_per_seat(self) -> bool:
        """True if a price of the plan is for each seat."""
        return any(price.per_seat for price in self.prices)

    @property
    def portal_proration(self) -> Proration:
        """Billing of changes in the portal.

        By default, changes of seats are part of the next invoice, and other changes are invoiced immediately.
        """
        return self.proration or (Proration.CREATE_PRORATIONS if self.is_per_seat else Proration.ALWAYS_INVOICE)


@dataclass(frozen=True, slots=True)
class Catalog:
    """All plans in ascending order, all metrics, and the settings of the portal.

    The first plan applies without a subscription.
    """

    plans: tuple[Plan, ...]
    metrics: tuple[Metric, ...] = ()
    downgrades: Downgrades = Downgrades.AT_PERIOD_END

    @property
    def free(self) -> Plan:
        """Plan of an account without a subscription that grants access."""
        return self.plans[0]

    @property
    def for_sale(self) -> tuple[Plan, ...]:
        """Plans that checkout can sell."""
        return tuple(plan for plan in self.plans if plan.prices)

    def plan(self, plan_id: str) -> Plan | None:
        """Return the plan with this id; None if the catalog has none."""
        return next((plan for plan in self.plans if plan.id == plan_id), None)

    def limits(self, plan: Plan) -> Mapping[str, int | None]:
        """Return the plan's limit of every metric; None is unlimited."""
        return {metric.id: plan.limits.get(metric.id) for metric in self.metrics}

    def rank(self, plan_id: str | None) -> int:
        """Return the position of a plan in ascending order; -1 for None and for a plan that the catalog lacks."""
        return next((rank for rank, plan in enumerate(self.plans) if plan.id == plan_id), -1)

    def plan_of_price(
        self, lookup_key: str | None, price_id: str | None, metadata_plan: str | None = None
    ) -> Plan | None:
        """Return the plan that a Stripe price belongs to.

        The lookup key has precedence over the id, and the id over the metadata. A price that was archived and replaced
        has lost its lookup key and keeps its metadata.

        Args:
            lookup_key: Lookup key of the price.
            price_id: Id of the price.
            metadata_plan: `metadata.plan` of the price, which `billing setup` writes.

        Returns:
            The plan, or None if the catalog has neither the lookup key nor the id nor the plan of the metadata.
        """
        by_lookup_key = {price.lookup_key: plan for plan in self.plans for price in plan.prices}
        by_id = {price.id: plan for plan in self.plans for price in plan.prices if price.id}
        return by_lookup_key.get(lookup_key or "") or by_id.get(price_id or "") or self.plan(metadata_plan or "")

    def is_per_seat(self, plan: Plan | None, lookup_key: str | None, price_id: str | None) -> bool:
        """Return True if a Stripe price is for each seat.

        Args:
            plan: Plan that the price belongs to.
            lookup_key: Lookup key of the price.
            price_id: Id of the price. A price that left the catalog is per seat if a price of the plan is.
        """
        if plan is None:
            return False
        found = next((price for price in plan.prices if price.lookup_key == lookup_key), None)
        found = found or next((price for price in plan.prices if price.id and price.id == price_id), None)
        return found.per_seat if found else plan.is_per_seat
