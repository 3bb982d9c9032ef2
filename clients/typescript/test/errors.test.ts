/** What a call fails with. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  BillingApiError,
  BillingConnectionError,
  BillingError,
  type BillingErrorCode,
  BillingTimeoutError,
  createBillingClient,
} from "serverless-billing-client";
import { type Answer, FREE, refusal, serve, success } from "./api.js";

const failure = async (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    () => assert.fail("the call succeeded"),
    (error: unknown) => error,
  );

test("a refusal has the API's status, code, message, details and request id", async (t) => {
  const details = [{ path: "priceId", message: "is required" }];
  const { baseUrl, received } = await serve(
    t,
    refusal(400, "BAD_REQUEST", { message: "priceId: is required", details, headers: { "x-request-id": "r-1" } }),
  );
  const error = await failure(createBillingClient({ baseUrl }).createCheckout({ priceId: "" }));
  assert.ok(error instanceof BillingApiError && error instanceof BillingError && error instanceof Error);
  const code: BillingErrorCode = error.code;
  assert.equal(code, "BAD_REQUEST");
  assert.equal(error.name, "BillingApiError");
  assert.equal(error.status, 400);
  assert.equal(error.message, "priceId: is required");
  assert.deepEqual(error.details, details);
  assert.equal(error.requestId, "r-1");
  assert.equal(error.retryAfterSeconds, null);
  assert.equal(received.length, 1);
});

test("a refusal without details has none", async (t) => {
  const { baseUrl } = await serve(t, refusal(401, "UNAUTHORIZED", { message: "Authentication required" }));
  const error = await failure(createBillingClient({ baseUrl }).getSubscription());
  assert.ok(error instanceof BillingApiError);
  assert.deepEqual(
    { status: error.status, code: error.code, details: error.details, requestId: error.requestId },
    { status: 401, code: "UNAUTHORIZED", details: [], requestId: null },
  );
});

const STRANGE: [string, Answer][] = [
  ["HTML", { status: 403, body: "<html>Forbidden</html>" }],
  ["nothing", { status: 404, body: "" }],
  ["API Gateway's own words", { status: 413, body: { message: "Request Entity Too Large" } }],
  ["null", { status: 400, body: null }],
  ["a list", { status: 400, body: [] }],
  ["a text for an error", { status: 400, body: { success: false, data: null, error: "no" } }],
  ["details that are no list", { status: 400, body: { error: { code: "X", message: "x", details: {} } } }],
  ["a failure that says it is none", { status: 404, body: { success: true, data: FREE, error: null } }],
  ["success in HTML", { status: 200, body: "<html>Please log in</html>" }],
  ["success of something else", { status: 200, body: { plan: "free" } }],
  ["success that says it is none", { status: 200, body: { success: false, data: null, error: null } }],
];

for (const [what, answer] of STRANGE) {
  test(`an answer that is not the API's is told as that: ${what}`, async (t) => {
    const { baseUrl } = await serve(t, answer);
    const error = await failure(createBillingClient({ baseUrl }).getSubscription());
    assert.ok(error instanceof BillingApiError);
    assert.deepEqual([error.code, error.status], ["UNEXPECTED_RESPONSE", answer.status]);
    assert.equal(error.message, `HTTP ${answer.status} with a body that is not the billing API's`);
    assert.deepEqual(error.details, []);
  });
}

test("no server is a connection error with its cause", async () => {
  const error = await failure(createBillingClient({ baseUrl: "http://127.0.0.1:9", maxRetries: 0 }).getSubscription());
  assert.ok(error instanceof BillingConnectionError && !(error instanceof BillingTimeoutError));
  assert.equal(error.message, "No answer from http://127.0.0.1:9");
  assert.ok(error.cause instanceof Error);
});

test("a server that says nothing is a timeout", async (t) => {
  const { baseUrl } = await serve(t, () => undefined);
  const error = await failure(createBillingClient({ baseUrl, timeoutMs: 50, maxRetries: 0 }).getSubscription());
  assert.ok(error instanceof BillingTimeoutError && error instanceof BillingConnectionError);
  assert.equal(error.message, `No answer from ${baseUrl} within 50 ms`);
});

test("a timeout counts beside the caller's signal", async (t) => {
  const { baseUrl } = await serve(t, () => undefined);
  const billing = createBillingClient({ baseUrl, timeoutMs: 50, maxRetries: 0 });
  assert.ok((await failure(billing.getUsage({ signal: new AbortController().signal }))) instanceof BillingTimeoutError);
});

test("a body that stops half-way is a timeout too", async (t) => {
  const { baseUrl } = await serve(t, (_, response) => void response.write('{"success":'));
  const error = await failure(createBillingClient({ baseUrl, timeoutMs: 100, maxRetries: 0 }).getSubscription());
  assert.ok(error instanceof BillingTimeoutError);
});

test("the caller's signal ends the call with its reason", async (t) => {
  const controller = new AbortController();
  const reason = new Error("left the page");
  const { baseUrl, received } = await serve(t, () => controller.abort(reason));
  const billing = createBillingClient({ baseUrl, maxRetries: 0 });
  assert.equal(await failure(billing.getUsage({ signal: controller.signal })), reason);
  assert.equal(received.length, 1);
});

test("a signal that is aborted already sends nothing", async (t) => {
  const { baseUrl, received } = await serve(t);
  const error = await failure(createBillingClient({ baseUrl }).createPortal({}, { signal: AbortSignal.abort() }));
  assert.equal((error as Error).name, "AbortError");
  assert.deepEqual(received, []);
});

test("what the token function throws is thrown on, once", async (t) => {
  const { baseUrl, received } = await serve(t, success(FREE));
  const reason = new Error("signed out");
  let asked = 0;
  const token = () => {
    asked += 1;
    throw reason;
  };
  assert.equal(await failure(createBillingClient({ baseUrl, token }).getSubscription()), reason);
  assert.deepEqual([asked, received.length], [1, 0]);
});
