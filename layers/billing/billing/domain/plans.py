"""Plans, their prices and limits: what is for sale."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class MetricKind(StrEnum):
    """How a metric is measured: a counter adds up over a billing period, a gauge says how much there is now."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """Something whose use is measured, and which plans may limit."""

    id: str
    name: str
    kind: MetricKind

    @property
    def is_gauge(self) -> bool:
        """Whether it is set, not added to."""
        return self.kind is MetricKind.GAUGE


@dataclass(frozen=True, slots=True)
class Price:
    """A recurring Stripe price: `unit_amount` in the currency's minor unit per `interval` (and per seat if `per_seat`).

    `id` is needed only for a price that carries no lookup key in Stripe.
    """

    lookup_key: str
    unit_amount: int
    currency: str
    interval: str
    per_seat: bool = False
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """One line of the price page. What `limits` does not name is unlimited; `contact` is whom to ask for a price."""

    id: str
    name: str
    prices: tuple[Price, ...] = ()
    trial_days: int = 0
    contact: str | None = None
    features: Mapping[str, bool | str] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Catalog:
    """All plans, from the least to the most. The first is what an account without a granting subscription is on."""

    plans: tuple[Plan, ...]
    metrics: tuple[Metric, ...] = ()

    @property
    def free(self) -> Plan:
        """The plan that needs no subscription."""
        return self.plans[0]

    def plan(self, plan_id: str) -> Plan | None:
        """The plan of that id."""
        return next((plan for plan in self.plans if plan.id == plan_id), None)

    def limits(self, plan: Plan) -> Mapping[str, int | None]:
        """The plan's limit for every metric; None is unlimited."""
        return {metric.id: plan.limits.get(metric.id) for metric in self.metrics}

    def rank(self, plan_id: str | None) -> int:
        """How much a plan is, compared with others; a plan no longer in the catalog ranks lowest."""
        return next((rank for rank, plan in enumerate(self.plans) if plan.id == plan_id), -1)

    def plan_of_price(self, lookup_key: str | None, price_id: str | None) -> Plan | None:
        """The plan a Stripe price belongs to: by lookup key, then by id; None for a price that is not ours."""
        by_lookup_key = {price.lookup_key: plan for plan in self.plans for price in plan.prices}
        by_id = {price.id: plan for plan in self.plans for price in plan.prices if price.id}
        return by_lookup_key.get(lookup_key or "") or by_id.get(price_id or "")

    @property
    def for_sale(self) -> tuple[Plan, ...]:
        """The plans that checkout can sell."""
        return tuple(plan for plan in self.plans if plan.prices)
