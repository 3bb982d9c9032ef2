/** What is tried again, when, and how often. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { BillingApiError, BillingConnectionError, createBillingClient } from "serverless-billing-client";
import { FREE, answering, recordWaits, refusal, serve, success } from "./api.js";

const BASE_URL = "https://billing.example";
const PAGE = { url: "https://checkout.stripe.com/c/pay/cs_test_1" };
const NOW = Date.UTC(2026, 10, 21, 12, 0, 0);
const AT_ONCE = { maxRetryDelayMs: 1 };

for (const status of [429, 500, 502, 503, 504]) {
  test(`${status} is tried again, with exponential backoff and jitter`, async (t) => {
    const waits = recordWaits(t);
    const { fetch } = answering(refusal(status, "X"), refusal(status, "X"), success(FREE));
    assert.deepEqual(await createBillingClient({ baseUrl: BASE_URL, fetch }).getSubscription(), FREE);
    assert.deepEqual(waits, [250, 500]);
  });
}

for (const status of [400, 401, 403, 404, 405, 409, 422]) {
  test(`${status} is final`, async () => {
    const { fetch, asked } = answering(refusal(status, "BAD_REQUEST"), success(FREE));
    await assert.rejects(createBillingClient({ baseUrl: BASE_URL, fetch }).getSubscription(), { status });
    assert.equal(asked.count, 1);
  });
}

test("after the last retry the last error is thrown", async (t) => {
  recordWaits(t);
  const { fetch, asked } = answering(
    refusal(500, "INTERNAL_ERROR"),
    refusal(502, "PAYMENT_ERROR"),
    refusal(503, "SERVICE_UNAVAILABLE"),
  );
  const call = createBillingClient({ baseUrl: BASE_URL, fetch }).getSubscription();
  await assert.rejects(call, { status: 503, code: "SERVICE_UNAVAILABLE" });
  assert.equal(asked.count, 3);
});

test("maxRetries says how often, maxRetryDelayMs how long at most", async (t) => {
  const waits = recordWaits(t);
  const failing = Array.from({ length: 9 }, () => refusal(500, "INTERNAL_ERROR"));
  const never = createBillingClient({ baseUrl: BASE_URL, fetch: answering(...failing).fetch, maxRetries: 0 });
  await assert.rejects(never.getUsage(), BillingApiError);
  assert.deepEqual(waits, []);
  const { fetch, asked } = answering(...failing);
  const often = createBillingClient({ baseUrl: BASE_URL, fetch, maxRetries: 6, maxRetryDelayMs: 5000 });
  await assert.rejects(often.getUsage(), BillingApiError);
  assert.equal(asked.count, 7);
  assert.deepEqual(waits, [250, 500, 1000, 2000, 2500, 2500]);
});

test("a connection that breaks is tried again", async (t) => {
  const { baseUrl, received } = await serve(t, (request) => request.socket.destroy(), success(FREE));
  assert.deepEqual(await createBillingClient({ baseUrl, ...AT_ONCE }).getSubscription(), FREE);
  assert.equal(received.length, 2);
});

test("a body that breaks off is tried again", async (t) => {
  const { baseUrl, received } = await serve(
    t,
    (request, response) => void response.write('{"success":', () => request.socket.destroy()),
    success(FREE),
  );
  assert.deepEqual(await createBillingClient({ baseUrl, ...AT_ONCE }).getSubscription(), FREE);
  assert.equal(received.length, 2);
});

test("a timeout is tried again", async (t) => {
  const { baseUrl, received } = await serve(t, () => undefined, success(FREE));
  assert.deepEqual(await createBillingClient({ baseUrl, timeoutMs: 300, ...AT_ONCE }).getSubscription(), FREE);
  assert.equal(received.length, 2);
});

test("no server at all fails after the last retry", async (t) => {
  const waits = recordWaits(t);
  const fetch = async () => Promise.reject(new TypeError("fetch failed"));
  await assert.rejects(createBillingClient({ baseUrl: BASE_URL, fetch }).getUsage(), BillingConnectionError);
  assert.deepEqual(waits, [250, 500]);
});

test("the tries of a POST are one request: same key, same body", async (t) => {
  const { baseUrl, received } = await serve(
    t,
    (request) => request.socket.destroy(),
    refusal(503, "PAYMENT_ERROR"),
    success(PAGE),
  );
  const session = await createBillingClient({ baseUrl, ...AT_ONCE }).createCheckout({ priceId: "price_123" });
  assert.deepEqual(session, PAGE);
  assert.equal(received.length, 3);
  assert.equal(new Set(received.map(({ headers }) => headers["idempotency-key"])).size, 1);
  assert.deepEqual(new Set(received.map(({ body }) => body)), new Set(['{"priceId":"price_123"}']));
});

test("a token is asked for before each try", async (t) => {
  const { baseUrl, received } = await serve(t, refusal(503, "SERVICE_UNAVAILABLE"), success(FREE));
  const tokens = ["first", "second"];
  await createBillingClient({ baseUrl, token: () => tokens.shift()!, ...AT_ONCE }).getSubscription();
  assert.deepEqual(received.map(({ headers }) => headers.authorization), ["Bearer first", "Bearer second"]);
});

test("an answer that is still being made is waited for", async (t) => {
  const waits = recordWaits(t);
  const stillRunning = refusal(409, "IDEMPOTENCY_KEY_REUSE", { headers: { "retry-after": "1" } });
  const { fetch } = answering(stillRunning, success(PAGE));
  assert.deepEqual(await createBillingClient({ baseUrl: BASE_URL, fetch }).createPortal(), PAGE);
  assert.deepEqual(waits, [1000]);
});

test("another 409 is final, whatever it carries", async () => {
  const exists = refusal(409, "SUBSCRIPTION_EXISTS", { headers: { "retry-after": "1" } });
  const { fetch, asked } = answering(exists, success(PAGE));
  const call = createBillingClient({ baseUrl: BASE_URL, fetch }).createCheckout({ priceId: "price_123" });
  await assert.rejects(call, { code: "SUBSCRIPTION_EXISTS" });
  assert.equal(asked.count, 1);
});

test("an idempotency key in use is final without a Retry-After", async () => {
  const { fetch, asked } = answering(refusal(409, "IDEMPOTENCY_KEY_REUSE"), success(PAGE));
  await assert.rejects(createBillingClient({ baseUrl: BASE_URL, fetch }).createPortal(), { status: 409 });
  assert.equal(asked.count, 1);
});

const RETRY_AFTER: [string, string, number | null, number][] = [
  ["seconds", "7", 7, 7000],
  ["a date", "Sat, 21 Nov 2026 12:00:05 GMT", 5, 5000],
  ["a date that is over", "Sat, 21 Nov 2026 11:59:00 GMT", 0, 250],
  ["zero", "0", 0, 250],
  ["no number and no date", "soon", null, 250],
  ["a negative number", "-5", null, 250],
  ["a fraction", "1.5", null, 250],
];

for (const [what, value, retryAfterSeconds, wait] of RETRY_AFTER) {
  test(`Retry-After is told and honoured: ${what}`, async (t) => {
    const waits = recordWaits(t);
    t.mock.method(Date, "now", () => NOW);
    const limited = refusal(429, "RATE_LIMITED", { headers: { "retry-after": value } });
    const { fetch } = answering(limited, limited);
    const call = createBillingClient({ baseUrl: BASE_URL, fetch, maxRetries: 1 }).getSubscription();
    await assert.rejects(call, { code: "RATE_LIMITED", retryAfterSeconds });
    assert.deepEqual(waits, [wait]);
  });
}

test("a longer Retry-After than maxRetryDelayMs is the caller's to wait for", async (t) => {
  const waits = recordWaits(t);
  const { fetch, asked } = answering(
    refusal(429, "RATE_LIMITED", { headers: { "retry-after": "11" } }),
    refusal(429, "RATE_LIMITED", { headers: { "retry-after": "11" } }),
    success(FREE),
  );
  const impatient = createBillingClient({ baseUrl: BASE_URL, fetch });
  await assert.rejects(impatient.getSubscription(), { status: 429, retryAfterSeconds: 11 });
  assert.deepEqual([asked.count, waits], [1, []]);
  const patient = createBillingClient({ baseUrl: BASE_URL, fetch, maxRetryDelayMs: 11_000 });
  assert.deepEqual(await patient.getSubscription(), FREE);
  assert.deepEqual(waits, [11_000]);
});

test("the caller's signal ends a wait", async (t) => {
  const controller = new AbortController();
  const reason = new Error("left the page");
  const cleared = t.mock.method(globalThis, "clearTimeout");
  t.mock.method(globalThis, "setTimeout", () => queueMicrotask(() => controller.abort(reason)));
  const { fetch, asked } = answering(refusal(503, "PAYMENT_ERROR"), success(FREE));
  const call = createBillingClient({ baseUrl: BASE_URL, fetch }).getUsage({ signal: controller.signal });
  await assert.rejects(call, reason);
  assert.equal(asked.count, 1);
  assert.equal(cleared.mock.callCount(), 1);
});
