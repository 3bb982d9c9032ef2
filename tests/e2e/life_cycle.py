"""Random life cycle of a customer, executed with Stripe's API."""

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

VISA, FAILING = "pm_card_visa", "pm_card_chargeCustomerFail"
ENDED_STATUSES = {"canceled", "incomplete_expired"}
REJECTED_STATUSES = {400, 402, 404}
"""If Stripe rejects a step, the life cycle continues without it."""
LOOKUP_KEYS = ("pro_monthly", "team_monthly")

type Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AsyncStripeClient:
    """Asynchronous client of Stripe's API and the simulator's controls."""

    http: httpx.AsyncClient

    async def get(self, path: str, **parameters: str) -> Json:
        """Return an object or a list."""
        return self._read(await self.http.get(path, params=parameters))

    async def all(self, path: str, **parameters: str) -> list[Json]:
        """Return up to a hundred objects of a list."""
        return list((await self.get(path, limit="100", **parameters))["data"])

    async def post(self, path: str, **parameters: str) -> Json | None:
        """Send a POST request. Returns None if Stripe rejects it."""
        return self._read_unless_rejected(await self.http.post(path, data=parameters))

    async def delete(self, path: str) -> Json | None:
        """Send a DELETE request. Returns None if Stripe rejects it."""
        return self._read_unless_rejected(await self.http.delete(path))

    async def control(self, path: str, document: Json) -> Json:
        """Send a command to the simulator."""
        return self._read(await self.http.post(f"/_simulator/{path}", json=document))

    def _read_unless_rejected(self, response: httpx.Response) -> Json | None:
        return None if response.status_code in REJECTED_STATUSES else self._read(response)

    @staticmethod
    def _read(response: httpx.Response) -> Json:
        assert response.is_success, response.text
        document: Json = response.json()
        return document


@dataclass
class LifeCycle:
    """Life cycle of one customer. `may_be_deleted` is True only if the account is linked from the start."""

    stripe: AsyncStripeClient
    rng: random.Random
    account_id: str
    customer_id: str
    prices: Mapping[str, str]
    may_be_deleted: bool
    subscriptions: list[str] = field(default_factory=list)
    is_deleted: bool = False

    async def start(self) -> None:
        """Create the first subscription in a random way."""
        await self._run_any(
            (self._check_out, self._check_out, self._subscribe, self._subscribe_unpaid, self._start_trial)
        )

    async def next_step(self) -> None:
        """Execute a random step. Does nothing if the customer was deleted."""
        if self.is_deleted:
            return
        steps = (
            *(
                self._change_plan,
                self._change_plan,
                self._change_seats,
                self._cancel_at_period_end,
                self._undo_cancellation,
            ),
            *(
                self._fail_payment,
                self._fail_payment,
                self._pay,
                self._pay,
                self._void,
                self._change_metadata,
                self._change_metadata,
            ),
            *(self._end_trial, self._cancel, self._subscribe, self._mark_uncollectible),
        )
        # Events of a schedule name no account, so its customer has to be linked from the start.
        of_linked = (self._schedule_change, self._schedule_change, self._release_schedule, self._delete_customer)
        await self._run_any((*steps, *of_linked) if self.may_be_deleted else steps)

    async def _run_any(self, steps: Sequence[Callable[[], Awaitable[None]]]) -> None:
        await self.rng.choice(steps)()

    # --- Start --------------------------------------------------------------------------------------------------------

    async def _check_out(self) -> None:
        session = await self.stripe.post(
            "/v1/checkout/sessions",
            mode="subscription",
            customer=self.customer_id,
            success_url="http://localhost:3000",
            **{"line_items[0][price]": self._any_price(), "line_items[0][quantity]": "1"},
            **{"metadata[account_id]": self.account_id, "subscription_data[metadata][account_id]": self.account_id},
        )
        if session is None:
            return
        if self.rng.random() < 0.3:
            await self.stripe.control(f"checkout/{session['id']}", {"outcome": "decline"})
        paid = await self.stripe.control(f"checkout/{session['id']}", {"outcome": "pay"})
        self.subscriptions.append(paid["subscription"])

    async def _subscribe(self) -> None:
        await self._create(default_payment_method=VISA)

    async def _subscribe_unpaid(self) -> None:
        """Create an incomplete subscription. It becomes active if paid, and expires if its invoice is voided."""
        subscription = await self._create(default_payment_method=FAILING)
        if subscription and self.rng.random() < 0.7:
            step = self.rng.choice(("pay", "pay", "void"))
            payment = {"payment_method": VISA} if step == "pay" else {}
            if step == "pay":
                await self._change(subscription["id"], default_payment_method=VISA)
            await self.stripe.post(f"/v1/invoices/{subscription['latest_invoice']}/{step}", **payment)

    async def _start_trial(self) -> None:
        await self._create(default_payment_method=VISA, trial_period_days=str(self.rng.choice((2, 14))))

    async def _create(self, **parameters: str) -> Json | None:
        subscription = await self.stripe.post(
            "/v1/subscriptions",
            customer=self.customer_id,
            **{"items[0][price]": self._any_price(), "metadata[account_id]": self.account_id},
            **parameters,
        )
        if subscription:
            self.subscriptions.append(subscription["id"])
        return subscription

    # --- Later steps --------------------------------------------------------------------------------------------------

    async def _change_plan(self) -> None:
        prorating = self.rng.choice(("create_prorations", "always_invoice", "none"))
        await self._change_item(price=self._any_price(), proration_behavior=prorating)

    async def _change_seats(self) -> None:
        await self._change_item(quantity=str(self.rng.randint(1, 9)), proration_behavior="none")

    async def _cancel_at_period_end(self) -> None:
        await self._change(self._any_subscription(), cancel_at_period_end="true")

    async def _undo_cancellation(self) -> None:
        await self._change(self._any_subscription(), cancel_at_period_end="false")

    async def _fail_payment(self) -> None:
        """Let the card fail, and create an invoice that stays unpaid."""
        await self.stripe.control(f"customers/{self.customer_id}/payment_method", {"card": "declined"})
        await self._change_item(quantity=str(self.rng.randint(10, 20)), proration_behavior="always_invoice")

    async def _pay(self) -> None:
        """Let the card succeed, and pay all open invoices."""
        for invoice in await self._open_invoices():
            await self.stripe.control(f"customers/{self.customer_id}/payment_method", {"card": "success"})
            await self.stripe.post(f"/v1/invoices/{invoice['id']}/pay")

    async def _void(self) -> None:
        for invoice in (await self._open_invoices())[:1]:
            await self.stripe.post(f"/v1/invoices/{invoice['id']}/void")

    async def _mark_uncollectible(self) -> None:
        for invoice in (await self._open_invoices())[:1]:
            await self.stripe.post(f"/v1/invoices/{invoice['id']}/mark_uncollectible")

    async def _change_metadata(self) -> None:
        """Change metadata, which no row contains."""
        await self._change(self._any_subscription(), **{"metadata[note]": str(self.rng.random())})

    async def _end_trial(self) -> None:
        await self._change(self._any_subscription(), trial_end="now")

    async def _cancel(self) -> None:
        await self.stripe.delete(f"/v1/subscriptions/{self._any_subscription()}")

    async def _schedule_change(self) -> None:
        """Schedule a change of price and quantity for the end of the period, or change the scheduled one."""
        subscription = await self._any_listed_subscription()
        schedule_id = subscription["schedule"]
        if schedule_id is None:
            created = await self.stripe.post("/v1/subscription_schedules", from_subscription=subscription["id"])
            if created is None:
                return
            schedule_id = created["id"]
        [item] = subscription["items"]["data"]
        start, end = item["current_period_start"], item["current_period_end"]
        phases = [
            (item["price"]["id"], item["quantity"], start, end),
            (self._any_price(), self.rng.randint(1, 9), end, end + 2_592_000),
        ]
        fields: dict[str, str] = {}
        for number, (price, quantity, begins, ends) in enumerate(phases):
            phase = f"phases[{number}]"
            fields |= {f"{phase}[items][0][price]": price, f"{phase}[items][0][quantity]": str(quantity)}
            fields |= {f"{phase}[start_date]": str(begins), f"{phase}[end_date]": str(ends)}
        await self.stripe.post(f"/v1/subscription_schedules/{schedule_id}", **fields)

    async def _release_schedule(self) -> None:
        subscription = await self._any_listed_subscription()
        if subscription["schedule"]:
            await self.stripe.post(f"/v1/subscription_schedules/{subscription['schedule']}/release")

    async def _delete_customer(self) -> None:
        await self.stripe.delete(f"/v1/customers/{self.customer_id}")
        self.is_deleted = True

    async def _change_item(self, proration_behavior: str, **change: str) -> None:
        subscription_id = self._any_subscription()
        [item] = (await self.stripe.all("/v1/subscription_items", subscription=subscription_id))[:1]
        changes = {f"items[0][{name}]": value for name, value in change.items()}
        await self._change(
            subscription_id, **{"items[0][id]": item["id"]}, **changes, proration_behavior=proration_behavior
        )

    async def _change(self, subscription_id: str, **changes: str) -> None:
        await self.stripe.post(f"/v1/subscriptions/{subscription_id}", **changes)

    async def _open_invoices(self) -> list[Json]:
        return await self.stripe.all("/v1/invoices", customer=self.customer_id, status="open")

    def _any_price(self) -> str:
        return self.prices[self.rng.choice(LOOKUP_KEYS)]

    async def _any_listed_subscription(self) -> Json:
        """Return a subscription from a list. Requests for a single one may be made to fail."""
        subscription_id = self._any_subscription()
        listed = await self.stripe.all("/v1/subscriptions", customer=self.customer_id, status="all")
        return next(each for each in listed if each["id"] == subscription_id)

    def _any_subscription(self) -> str:
        return self.rng.choice(self.subscriptions)
