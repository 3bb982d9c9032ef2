"""Schema of catalog.toml.

The tests validate the file with it. Functions read the file without validation, because it cannot change once it is
deployed.
"""

import tomllib
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from billing.domain.plans import Downgrades, Proration

Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
Text = Annotated[str, Field(min_length=1, max_length=250)]
Count = Annotated[int, Field(ge=0)]

# ISO 4217 in lower case, as in Stripe. `billing setup` fails if the Stripe account cannot charge in the currency.
Currency = Annotated[str, Field(pattern=r"^[a-z]{3}$")]


class Table(BaseModel):
    """Strict table: no type coercion, no unknown keys."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class PriceTable(Table):
    """Recurring price."""

    lookup_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,200}$")]
    unit_amount: Count
    currency: Currency
    interval: Literal["day", "week", "month", "year"]
    per_seat: bool = False
    id: Annotated[str, Field(pattern=r"^(price|plan)_[A-Za-z0-9]+$")] | None = None


class PlanTable(Table):
    """Plan. `trial_days` and `proration` require a price. Stripe allows trials of up to two years."""

    id: Identifier
    name: Text
    prices: list[PriceTable] = []
    trial_days: Annotated[int, Field(ge=0, le=730)] = 0
    proration: Annotated[Proration, Field(strict=False)] | None = None
    contact: Text | None = None
    features: dict[Identifier, bool | str] = {}
    limits: dict[Identifier, Count] = {}

    @model_validator(mode="after")
    def _trial_requires_a_price(self) -> Self:
        if self.trial_days and not self.prices:
            raise ValueError(f"plan {self.id} has a trial and no price")
        return self

    @model_validator(mode="after")
    def _proration_requires_a_price(self) -> Self:
        if self.proration and not self.prices:
            raise ValueError(f"plan {self.id} has a proration and no price")
        return self


class MetricTable(Table):
    """Metric that limits refer to."""

    id: Identifier
    name: Text
    kind: Literal["counter", "gauge"]


class PortalTable(Table):
    """Settings of the billing portal."""

    downgrades: Annotated[Downgrades, Field(strict=False)] = Downgrades.AT_PERIOD_END


class CatalogFile(Table):
    """Complete file."""

    plans: Annotated[list[PlanTable], Field(min_length=1)]
    metrics: list[MetricTable] = []
    portal: PortalTable = PortalTable()

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        _require_unique("plan id", [plan.id for plan in self.plans])
        _require_unique("metric id", [metric.id for metric in self.metrics])
        _require_unique("lookup_key", [price.lookup_key for plan in self.plans for price in plan.prices])
        _require_unique("price id", [price.id for plan in self.plans for price in plan.prices if price.id])
        return self

    @model_validator(mode="after")
    def _limits_name_known_metrics(self) -> Self:
        metrics = {metric.id for metric in self.metrics}
        for plan in self.plans:
            if unknown := sorted(plan.limits.keys() - metrics):
                raise ValueError(f"plan {plan.id} has limits for unknown metrics: {', '.join(unknown)}")
        return self

    @model_validator(mode="after")
    def _first_plan_is_free(self) -> Self:
        if self.plans[0].prices:
            raise ValueError(f"the first plan must be free: {self.plans[0].id} has prices")
        return self


def check_catalog(text: str) -> CatalogFile:
    """Return the validated catalog of a TOML text.

    Raises:
        TOMLDecodeError: The text is not TOML.
        ValidationError: A table or value is invalid. The message names its place.
    """
    return CatalogFile.model_validate(tomllib.loads(text))


def _require_unique(name: str, values: list[str]) -> None:
    duplicates = sorted({value for value in values if values.count(value) > 1})
    if duplicates:
        raise ValueError(f"{name} used twice: {', '.join(duplicates)}")
