/** Verification of webhook requests. */

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import {
  BillingError,
  type UnknownWebhookEvent,
  type WebhookEvent,
  type WebhookVerificationReason,
  WebhookVerificationError,
  verifyWebhook,
} from "serverless-billing-client";

interface Vector {
  name: string;
  secrets: string[];
  id: string;
  timestamp: number;
  body: string;
  signature: string;
}

/** Computed by Python's standardwebhooks; `tests/test_webhook_vectors.py` compares them. */
const VECTORS: Vector[] = JSON.parse(readFileSync(new URL("../test/webhook_vectors.json", import.meta.url), "utf8"));
const [SPECIFICATION, EVENT, UNICODE, ROTATION] = VECTORS as [Vector, Vector, Vector, Vector];
const SECRET = EVENT.secrets[0]!;
const OTHER_SECRET = ROTATION.secrets[0]!;
const NOW = EVENT.timestamp;

const headersOf = ({ id, timestamp, signature }: Vector) => ({
  "webhook-id": id,
  "webhook-timestamp": String(timestamp),
  "webhook-signature": signature,
});

const at = (seconds: number) => ({ now: () => seconds * 1000 });

const verify = ({ body, ...vector }: Vector, headers = {}, secret: string | string[] = SECRET, now = NOW) =>
  verifyWebhook(body, { ...headersOf({ body, ...vector }), ...headers }, secret, at(now));

/** The request with another body, signed by EVENT's secret with another implementation of HMAC. */
const signed = (body: string): Vector => {
  const key = Buffer.from(SECRET.replace("whsec_", ""), "base64");
  const signature = createHmac("sha256", key).update(`${EVENT.id}.${EVENT.timestamp}.${body}`).digest("base64");
  return { ...EVENT, body, signature: `v1,${signature}` };
};

const rejects = async (call: Promise<WebhookEvent>, reason: WebhookVerificationReason) =>
  assert.rejects(call, (error) => {
    assert.ok(error instanceof WebhookVerificationError && error instanceof BillingError);
    assert.deepEqual([error.name, error.reason], ["WebhookVerificationError", reason]);
    assert.ok(!error.message.includes("AAECAwQF"), "the message contains the secret");
    return true;
  });

// --- Accepted requests -----------------------------------------------------------------------------------------------

for (const vector of [EVENT, UNICODE, ROTATION]) {
  test(`a request that standardwebhooks signed is verified: ${vector.name}`, async () => {
    for (const secret of [...vector.secrets, vector.secrets]) {
      const expected = JSON.parse(vector.body);
      assert.deepEqual(await verify(vector, {}, secret), expected);
      assert.deepEqual(
        await verifyWebhook(new TextEncoder().encode(vector.body), headersOf(vector), secret, at(NOW)),
        expected,
      );
    }
  });
}

test("the vector of the specification is verified, and its body is not an event", async () => {
  const { secrets, timestamp } = SPECIFICATION;
  await rejects(verify(SPECIFICATION, {}, secrets, timestamp), "malformed_payload");
  await rejects(verify({ ...SPECIFICATION, body: "{}" }, {}, secrets, timestamp), "no_matching_signature");
});

test("one of several secrets is enough", async () => {
  assert.equal((await verify(EVENT, {}, [OTHER_SECRET, SECRET])).id, EVENT.id);
  await rejects(verify(EVENT, {}, [OTHER_SECRET]), "no_matching_signature");
});

test("signatures of other versions are ignored", async () => {
  const signature = `v1a,AAAA  v2,AAAA v1,AAAA ${EVENT.signature}`;
  assert.equal((await verify(EVENT, { "webhook-signature": signature })).id, EVENT.id);
  await rejects(verify(EVENT, { "webhook-signature": "v1a,AAAA" }), "no_matching_signature");
});

const ENTRIES = Object.entries(headersOf(EVENT));
const HEADERS = {
  Headers: new Headers(ENTRIES),
  Map: new Map(ENTRIES),
  "a Map in upper case": new Map(ENTRIES.map(([name, value]) => [name.toUpperCase(), value])),
  "an object in title case": {
    "Webhook-Id": EVENT.id,
    "Webhook-Timestamp": String(EVENT.timestamp),
    "Webhook-Signature": EVENT.signature,
  },
  "an object of lists": Object.fromEntries(ENTRIES.map(([name, value]) => [name, [value]])),
  "an object with undefined values": { ...headersOf(EVENT), cookie: undefined },
};

for (const [kind, headers] of Object.entries(HEADERS)) {
  test(`headers can be ${kind}`, async () => {
    assert.equal((await verifyWebhook(EVENT.body, headers, SECRET, at(NOW))).id, EVENT.id);
  });
}

test("a timestamp is accepted until five minutes before and after it", async () => {
  for (const now of [NOW - 300, NOW, NOW + 300]) {
    assert.equal((await verify(EVENT, {}, SECRET, now)).id, EVENT.id);
  }
});

test("the tolerance can be changed", async () => {
  const options = { ...at(NOW + 3600), toleranceSeconds: 3600 };
  assert.equal((await verifyWebhook(EVENT.body, headersOf(EVENT), SECRET, options)).id, EVENT.id);
});

test("the clock of the machine is the default", async (t) => {
  t.mock.method(Date, "now", () => NOW * 1000);
  assert.equal((await verifyWebhook(EVENT.body, headersOf(EVENT), SECRET)).id, EVENT.id);
});

// --- Rejected requests -----------------------------------------------------------------------------------------------

for (const name of Object.keys(headersOf(EVENT))) {
  test(`a request without ${name} is rejected`, async () => {
    for (const value of [undefined, "", []]) await rejects(verify(EVENT, { [name]: value }), "missing_header");
  });

  test(`a request with two headers ${name} is rejected`, async () => {
    await rejects(verify(EVENT, { [name.toUpperCase()]: "v1,AAAA" }), "malformed_header");
    await rejects(verify(EVENT, { [name]: ["v1,AAAA", "v1,AAAA"] }), "malformed_header");
  });
}

for (const timestamp of ["now", "1795262400.5", "-1", "0x1", "1e9", " "]) {
  test(`a request with the timestamp "${timestamp}" is rejected`, async () => {
    await rejects(verify(EVENT, { "webhook-timestamp": timestamp }), "malformed_header");
  });
}

for (const signature of ["AAAA", "v1", "v1,", "v1,*", "v1,A", EVENT.signature.replace("v1,", "")]) {
  test(`a request with the signature "${signature}" is rejected`, async () => {
    await rejects(verify(EVENT, { "webhook-signature": signature }), "malformed_header");
  });
}

test("a request that is older than five minutes is rejected", async () => {
  await rejects(verify(EVENT, {}, SECRET, NOW + 300.001), "timestamp_too_old");
  await rejects(verify(EVENT, { "webhook-timestamp": "0" }), "timestamp_too_old");
});

test("a request that is more than five minutes ahead is rejected", async () => {
  await rejects(verify(EVENT, {}, SECRET, NOW - 300.001), "timestamp_too_new");
  await rejects(verify(EVENT, { "webhook-timestamp": "9".repeat(400) }), "timestamp_too_new");
});

test("a request is rejected if the clock returns no number", async () => {
  await rejects(verify(EVENT, {}, SECRET, NaN), "timestamp_too_old");
});

test("a request with another body, id or timestamp than the signed one is rejected", async () => {
  await rejects(verify({ ...EVENT, body: EVENT.body.replace("acme", "evil") }), "no_matching_signature");
  await rejects(verify({ ...EVENT, body: `${EVENT.body} ` }), "no_matching_signature");
  await rejects(verify({ ...EVENT, body: "" }), "no_matching_signature");
  await rejects(verify({ ...EVENT, id: EVENT.id.replace("0", "1") }), "no_matching_signature");
  await rejects(verify({ ...EVENT, timestamp: EVENT.timestamp + 1 }), "no_matching_signature");
});

test("a request with a part of the signature, or a longer one, is rejected", async () => {
  for (const signature of [EVENT.signature.slice(0, 23), `v1,AAAA${EVENT.signature.slice(3)}`]) {
    await rejects(verify(EVENT, { "webhook-signature": signature }), "no_matching_signature");
  }
});

const NO_EVENTS = ["", "id=1", "null", "[]", '"event"', "{}", '{"type":1,"data":{"object":{}}}', '{"type":"a","data":{}}'];

for (const body of NO_EVENTS) {
  test(`a signed body that is not an event is rejected: ${body}`, async () => {
    await rejects(verify(signed(body)), "malformed_payload");
  });
}

test("a signed body that is not UTF-8 is rejected", async () => {
  const body = Buffer.concat([Buffer.from(EVENT.body), Buffer.from([0xff])]);
  const key = Buffer.from(SECRET.slice(6), "base64");
  const mac = createHmac("sha256", key).update(`${EVENT.id}.${EVENT.timestamp}.`).update(body).digest("base64");
  const headers = { ...headersOf(EVENT), "webhook-signature": `v1,${mac}` };
  await rejects(verifyWebhook(body, headers, SECRET, at(NOW)), "malformed_payload");
});

for (const secret of ["", "whsec_", "AAECAwQFBgc=", "whsec_***", "whsec_A", []]) {
  test(`the secret ${JSON.stringify(secret)} is rejected`, async () => {
    await rejects(verify(EVENT, {}, secret), "invalid_secret");
  });
}

test("a secret that is not set is rejected, also beside a valid one", async () => {
  const missing = undefined as unknown as string;
  await rejects(verifyWebhook(EVENT.body, headersOf(EVENT), missing, at(NOW)), "invalid_secret");
  await rejects(verify(EVENT, {}, [SECRET, missing]), "invalid_secret");
});

test("a body that was parsed is a TypeError", async () => {
  const parsed = JSON.parse(EVENT.body) as string;
  await assert.rejects(verifyWebhook(parsed, headersOf(EVENT), SECRET, at(NOW)), TypeError);
});

for (const toleranceSeconds of [-1, NaN]) {
  test(`a tolerance of ${toleranceSeconds} is a RangeError`, async () => {
    const options = { ...at(NOW), toleranceSeconds };
    await assert.rejects(verifyWebhook(EVENT.body, headersOf(EVENT), SECRET, options), RangeError);
  });
}

// --- Types -----------------------------------------------------------------------------------------------------------

/** Compiles only if a comparison of the type narrows the event, also for destructured fields. */
function describe(event: WebhookEvent): string {
  const { type, data } = event;
  switch (type) {
    case "subscription.created":
    case "subscription.updated":
    case "subscription.canceled": {
      const change: string | null | undefined = data.previous?.plan;
      return `${data.object.plan}, was ${change}`;
    }
    case "invoice.paid":
    case "invoice.payment_failed":
      return `${data.object.total satisfies number}`;
    case "webhook_endpoint.disabled":
      return `${data.object.disabled_reason satisfies "request" | "gone" | "failing" | null}`;
    case "webhook_endpoint.test":
      return `${data.object.url}, ${data.previous satisfies null}`;
    default:
      return `${type satisfies UnknownWebhookEvent["type"]} of ${data.object["id"]}`;
  }
}

test("a known event has the type of its schema", async () => {
  assert.equal(describe(await verify(EVENT)), "pro, was undefined");
});

test("an event of an unknown type is returned as it is", async () => {
  const later = { ...JSON.parse(EVENT.body), type: "subscription.paused", data: { object: { id: "sub_1" }, by: "you" } };
  const event = await verify(signed(JSON.stringify(later)));
  assert.deepEqual(event, later);
  assert.equal(describe(event), "subscription.paused of sub_1");
});
