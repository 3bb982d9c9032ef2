"""What may happen to a customer in Stripe: a short, random, legal life, lived through Stripe's own API."""

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

VISA, FAILING = "pm_card_visa", "pm_card_chargeCustomerFail"
OVER = {"canceled", "incomplete_expired"}
REFUSED = {400, 402, 404}
"""A step that Stripe refuses has not happened, which is as legal."""
LOOKUP_KEYS = ("pro_monthly", "team_monthly")

type Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StripeApi:
    """Stripe's API over HTTP."""

    http: httpx.AsyncClient

    async def get(self, path: str, **parameters: str) -> Json:
        """An object or a list."""
        return self._read(await self.http.get(path, params=parameters))

    async def all(self, path: str, **parameters: str) -> list[Json]:
        """Up to a hundred objects of a list."""
        return list((await self.get(path, limit="100", **parameters))["data"])

    async def post(self, path: str, **parameters: str) -> Json | None:
        """What a change answered; None if it was refused."""
        return self._unless_refused(await self.http.post(path, data=parameters))

    async def delete(self, path: str) -> Json | None:
        """What a deletion answered; None if it was refused."""
        return self._unless_refused(await self.http.delete(path))

    async def control(self, path: str, document: Json) -> Json:
        """A command to the simulator."""
        return self._read(await self.http.post(f"/_simulator/{path}", json=document))

    def _unless_refused(self, response: httpx.Response) -> Json | None:
        return None if response.status_code in REFUSED else self._read(response)

    @staticmethod
    def _read(response: httpx.Response) -> Json:
        assert response.is_success, response.text
        answer: Json = response.json()
        return answer


@dataclass
class Life:
    """One customer's. `may_be_deleted`: only a customer that its account already knows; see `history.py`."""

    stripe: StripeApi
    choice: random.Random
    account_id: str
    customer_id: str
    prices: Mapping[str, str]
    may_be_deleted: bool
    subscriptions: list[str] = field(default_factory=list)
    is_over: bool = False

    async def begin(self) -> None:
        """The first subscription, in one of the ways in which there can be one."""
        await self._any_of((self._check_out, self._check_out, self._subscribe, self._subscribe_unpaid, self._try_out))

    async def go_on(self) -> None:
        """One more thing that happens; nothing to a customer who is gone."""
        if self.is_over:
            return
        steps = (
            *(self._change_plan, self._change_plan, self._change_seats, self._cancel_later, self._keep),
            *(self._fall_behind, self._fall_behind, self._pay, self._pay, self._void, self._note, self._note),
            *(self._end_trial, self._cancel, self._subscribe, self._give_up_collecting),
        )
        await self._any_of((*steps, self._delete_customer) if self.may_be_deleted else steps)

    async def _any_of(self, steps: Sequence[Callable[[], Awaitable[None]]]) -> None:
        await self.choice.choice(steps)()

    # --- How it begins ------------------------------------------------------------------------------------------------

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
        if self.choice.random() < 0.3:
            await self.stripe.control(f"checkout/{session['id']}", {"outcome": "decline"})
        paid = await self.stripe.control(f"checkout/{session['id']}", {"outcome": "pay"})
        self.subscriptions.append(paid["subscription"])

    async def _subscribe(self) -> None:
        await self._create(default_payment_method=VISA)

    async def _subscribe_unpaid(self) -> None:
        """Incomplete at first; it becomes active when it is paid, or expires when its invoice is voided."""
        subscription = await self._create(default_payment_method=FAILING)
        if subscription and self.choice.random() < 0.7:
            step = self.choice.choice(("pay", "pay", "void"))
            payment = {"payment_method": VISA} if step == "pay" else {}
            if step == "pay":
                await self._change(subscription["id"], default_payment_method=VISA)
            await self.stripe.post(f"/v1/invoices/{subscription['latest_invoice']}/{step}", **payment)

    async def _try_out(self) -> None:
        await self._create(default_payment_method=VISA, trial_period_days=str(self.choice.choice((2, 14))))

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

    # --- How it goes on -----------------------------------------------------------------------------------------------

    async def _change_plan(self) -> None:
        prorating = self.choice.choice(("create_prorations", "always_invoice", "none"))
        await self._change_item(price=self._any_price(), proration_behavior=prorating)

    async def _change_seats(self) -> None:
        await self._change_item(quantity=str(self.choice.randint(1, 9)), proration_behavior="none")

    async def _cancel_later(self) -> None:
        await self._change(self._any_subscription(), cancel_at_period_end="true")

    async def _keep(self) -> None:
        await self._change(self._any_subscription(), cancel_at_period_end="false")

    async def _fall_behind(self) -> None:
        """The card begins to fail, and what is invoiced now stays unpaid."""
        await self.stripe.control(f"customers/{self.customer_id}/payment_method", {"card": "declined"})
        await self._change_item(quantity=str(self.choice.randint(10, 20)), proration_behavior="always_invoice")

    async def _pay(self) -> None:
        """A better card, and what is open is paid."""
        for invoice in await self._open_invoices():
            await self.stripe.control(f"customers/{self.customer_id}/payment_method", {"card": "success"})
            await self.stripe.post(f"/v1/invoices/{invoice['id']}/pay")

    async def _void(self) -> None:
        for invoice in (await self._open_invoices())[:1]:
            await self.stripe.post(f"/v1/invoices/{invoice['id']}/void")

    async def _give_up_collecting(self) -> None:
        for invoice in (await self._open_invoices())[:1]:
            await self.stripe.post(f"/v1/invoices/{invoice['id']}/mark_uncollectible")

    async def _note(self) -> None:
        """A change that says nothing to us."""
        await self._change(self._any_subscription(), **{"metadata[note]": str(self.choice.random())})

    async def _end_trial(self) -> None:
        await self._change(self._any_subscription(), trial_end="now")

    async def _cancel(self) -> None:
        await self.stripe.delete(f"/v1/subscriptions/{self._any_subscription()}")

    async def _delete_customer(self) -> None:
        await self.stripe.delete(f"/v1/customers/{self.customer_id}")
        self.is_over = True

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
        return self.prices[self.choice.choice(LOOKUP_KEYS)]

    def _any_subscription(self) -> str:
        return self.choice.choice(self.subscriptions)
