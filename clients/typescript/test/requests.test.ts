/** What goes over the wire, and what comes back. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type BillingApiError, type Subscription, createBillingClient } from "serverless-billing-client";
import { FREE, serve, success } from "./api.js";

const PAGE = { url: "https://checkout.stripe.com/c/pay/cs_test_1" };
const USAGE = {
  plan: "pro",
  periodStart: "2026-11-01T00:00:00Z",
  periodEnd: "2026-12-01T00:00:00Z",
  usage: [{ metric: "api_calls", used: 12, limit: null, remaining: null }],
};

test("getSubscription answers the data, and sends the token", async (t) => {
  const { baseUrl, received } = await serve(t, success(FREE));
  const subscription: Subscription = await createBillingClient({ baseUrl, token: "abc" }).getSubscription();
  assert.deepEqual(subscription, FREE);
  assert.equal(received.length, 1);
  const { method, url, headers, body } = received[0]!;
  assert.deepEqual([method, url, body], ["GET", "/api/billing/subscription", ""]);
  assert.equal(headers.authorization, "Bearer abc");
  assert.equal(headers["idempotency-key"], undefined);
  assert.equal(headers["content-type"], undefined);
});

test("getUsage answers the data", async (t) => {
  const { baseUrl, received } = await serve(t, success(USAGE));
  assert.deepEqual(await createBillingClient({ baseUrl, token: "abc" }).getUsage(), USAGE);
  assert.deepEqual([received[0]?.method, received[0]?.url], ["GET", "/api/billing/usage"]);
});

test("createCheckout sends what it is given as JSON", async (t) => {
  const { baseUrl, received } = await serve(t, success(PAGE));
  const request = { priceId: "price_123", successUrl: "/dashboard?success=true", cancelUrl: "/pricing", quantity: 2 };
  assert.deepEqual(await createBillingClient({ baseUrl, token: "abc" }).createCheckout(request), PAGE);
  assert.deepEqual([received[0]?.method, received[0]?.url], ["POST", "/api/billing/checkout"]);
  assert.equal(received[0]?.headers["content-type"], "application/json");
  assert.deepEqual(JSON.parse(received[0]!.body), request);
});

test("createPortal needs no request", async (t) => {
  const { baseUrl, received } = await serve(t, success(PAGE), success(PAGE));
  const billing = createBillingClient({ baseUrl, token: "abc" });
  assert.deepEqual(await billing.createPortal(), PAGE);
  assert.deepEqual(await billing.createPortal({ returnUrl: "/settings" }), PAGE);
  assert.deepEqual([received[0]?.method, received[0]?.url], ["POST", "/api/billing/portal"]);
  assert.deepEqual(received.map(({ body }) => JSON.parse(body)), [{}, { returnUrl: "/settings" }]);
});

test("each POST has an idempotency key of its own, or the caller's", async (t) => {
  const { baseUrl, received } = await serve(t, success(PAGE), success(PAGE), success(PAGE));
  const billing = createBillingClient({ baseUrl, token: "abc" });
  await billing.createCheckout({ priceId: "price_123" });
  await billing.createPortal();
  await billing.createPortal({}, { idempotencyKey: "order-7" });
  const [first, second, third] = received.map(({ headers }) => headers["idempotency-key"]);
  assert.match(String(first), /^[0-9a-f]{32}$/);
  assert.match(String(second), /^[0-9a-f]{32}$/);
  assert.notEqual(first, second);
  assert.equal(third, "order-7");
});

test("a token function is asked for each request", async (t) => {
  const { baseUrl, received } = await serve(t, success(FREE), success(FREE));
  const tokens = ["first", "second"];
  const billing = createBillingClient({ baseUrl, token: async () => tokens.shift()! });
  await billing.getSubscription();
  await billing.getSubscription();
  assert.deepEqual(received.map(({ headers }) => headers.authorization), ["Bearer first", "Bearer second"]);
});

test("without options, address and token come from the environment", async (t) => {
  const { baseUrl, received } = await serve(t, success(FREE));
  process.env.BILLING_API_URL = `${baseUrl}/`;
  process.env.BILLING_SESSION_TOKEN = "from-the-environment";
  t.after(() => {
    delete process.env.BILLING_API_URL;
    delete process.env.BILLING_SESSION_TOKEN;
  });
  assert.deepEqual(await createBillingClient().getSubscription(), FREE);
  assert.equal(received[0]?.url, "/api/billing/subscription");
  assert.equal(received[0]?.headers.authorization, "Bearer from-the-environment");
});

test("without options, in a browser, the page's own origin is asked, without a token", async (t) => {
  const { baseUrl, received } = await serve(t, success(FREE));
  Object.assign(globalThis, { location: { href: `${baseUrl}/pricing?x=1` } });
  t.after(() => Reflect.deleteProperty(globalThis, "location"));
  assert.deepEqual(await createBillingClient().getSubscription(), FREE);
  assert.equal(received[0]?.url, "/api/billing/subscription");
  assert.equal(received[0]?.headers.authorization, undefined);
});

test("an address may have a path", async (t) => {
  const { baseUrl, received } = await serve(t, success(FREE));
  await createBillingClient({ baseUrl: `${baseUrl}/stage/`, token: "abc" }).getSubscription();
  assert.equal(received[0]?.url, "/stage/api/billing/subscription");
});

test("another fetch may be given", async () => {
  const asked: string[] = [];
  const fetch = async (url: string | URL | Request) => {
    asked.push(String(url));
    return Response.json({ success: true, data: FREE, error: null });
  };
  await createBillingClient({ baseUrl: "https://billing.example", fetch }).getSubscription();
  assert.deepEqual(asked, ["https://billing.example/api/billing/subscription"]);
});

test("methods work apart from the client", async (t) => {
  const { baseUrl } = await serve(t, success(FREE));
  const { getSubscription } = createBillingClient({ baseUrl });
  assert.deepEqual(await getSubscription(), FREE);
});

test("without an address, outside of browsers, the call says what to set", async () => {
  await assert.rejects(createBillingClient().getSubscription(), {
    name: "TypeError",
    message: 'baseUrl "" is no address: give one in the options or in BILLING_API_URL',
  });
});

test("a number that makes no sense is refused at once", () => {
  for (const options of [{ timeoutMs: 0 }, { maxRetries: -1 }, { maxRetries: 1.5 }, { maxRetryDelayMs: NaN }, { timeoutMs: 2 ** 31 }]) {
    assert.throws(() => createBillingClient(options), RangeError);
  }
});

test("a token or key that cannot stand in a header is the caller's mistake, and sends nothing", async (t) => {
  const { baseUrl, received } = await serve(t);
  await assert.rejects(createBillingClient({ baseUrl, token: "a\nb" }).getSubscription(), TypeError);
  await assert.rejects(createBillingClient({ baseUrl }).createPortal({}, { idempotencyKey: "order\n7" }), TypeError);
  assert.deepEqual(received, []);
});

test("types come from the API's document", () => {
  const billing = createBillingClient();
  const mistakes = () => [
    // @ts-expect-error - a price is required
    billing.createCheckout({ successUrl: "/" }),
    // @ts-expect-error - no such field
    billing.createCheckout({ priceId: "price_123", price: "price_123" }),
    // @ts-expect-error - no text
    billing.createCheckout({ priceId: "price_123", quantity: "2" }),
    // @ts-expect-error - no such field
    billing.createPortal({ url: "/" }),
    // @ts-expect-error - no such field
    billing.getSubscription().then(({ tier }) => tier),
    // @ts-expect-error - there may be no period
    billing.getSubscription().then(({ currentPeriodEnd }) => currentPeriodEnd.length),
    // @ts-expect-error - there may be no limit
    billing.getUsage().then(({ usage }) => usage.map(({ used, limit }) => limit - used)),
    // @ts-expect-error - no such code
    billing.getUsage().catch((error: BillingApiError) => error.code === "UNATHORIZED"),
    // @ts-expect-error - no such option
    createBillingClient({ apiKey: "sk" }),
  ];
  assert.equal(typeof mistakes, "function");
});

test("a token that no header can carry is not shown", async () => {
  const billing = createBillingClient({ baseUrl: "http://localhost:1", token: "secret\nvalue" });
  await assert.rejects(billing.getSubscription(), (error: Error) => error instanceof TypeError && !/secret/.test(error.message));
});

test("an empty idempotency key is refused, as the API does", async () => {
  const billing = createBillingClient({ baseUrl: "http://localhost:1" });
  await assert.rejects(billing.createPortal({}, { idempotencyKey: "" }), TypeError);
});
