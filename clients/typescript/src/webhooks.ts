/** Verification of webhook requests: https://github.com/standard-webhooks/standard-webhooks */

import type { WebhookEvent } from "./contract.js";
import { WebhookVerificationError, type WebhookVerificationReason } from "./errors.js";

const TOLERANCE_SECONDS = 300;
const HMAC = { name: "HMAC", hash: "SHA-256" };
const SECRET = /^whsec_([A-Za-z0-9+/]+={0,2})$/;
const TIMESTAMP = /^[0-9]+$/;
const SIGNATURE = /^(v[0-9a-z]+),([A-Za-z0-9+/]+={0,2})$/;

/**
 * Headers of a request, with names in any case: `Headers`, a `Map`, or an object such as `request.headers` of Node or
 * `event.headers` of API Gateway.
 */
export type WebhookHeaders =
  | { forEach(callback: (value: string, name: string) => void): void }
  | Readonly<Record<string, string | readonly string[] | undefined>>;

export interface WebhookVerificationOptions {
  /** Greatest permitted difference between the request's timestamp and the current time: 300 by default. */
  toleranceSeconds?: number;
  /** Replaces `Date.now`. */
  now?: () => number;
}

/**
 * Verify the signature and the timestamp of a webhook request, and return its event.
 *
 * A request can arrive more than once: ignore an event whose `id` was processed before. An event of a type that this
 * version of the client does not know is returned as it is.
 *
 * @param payload Body of the request as it arrived, neither parsed nor reformatted.
 * @param headers Headers of the request.
 * @param secret Secret of the endpoint, `whsec_…`; several if the endpoint's secret changes, or for several endpoints.
 * @throws WebhookVerificationError if the request or a secret is invalid.
 * @throws TypeError if `payload` is neither a string nor bytes, for example because it was parsed.
 */
export async function verifyWebhook(
  payload: string | Uint8Array,
  headers: WebhookHeaders,
  secret: string | readonly string[],
  options: WebhookVerificationOptions = {},
): Promise<WebhookEvent> {
  const body = bytesOf(payload);
  const keys = await Promise.all((typeof secret === "string" ? [secret] : (secret ?? [])).map(importKey));
  if (keys.length === 0) throw rejection("invalid_secret", "There is no secret");
  const id = readHeader(headers, "webhook-id");
  const timestamp = readHeader(headers, "webhook-timestamp");
  const signatures = parseSignatures(readHeader(headers, "webhook-signature"));
  checkTimestamp(timestamp, options);
  const signed = concatenate(new TextEncoder().encode(`${id}.${timestamp}.`), body);
  if (!(await isSigned(signed, signatures, keys))) {
    throw rejection("no_matching_signature", "No signature matches the body and a secret");
  }
  return parseEvent(body);
}

function rejection(reason: WebhookVerificationReason, message: string): WebhookVerificationError {
  return new WebhookVerificationError(reason, message);
}

// --- Secrets ---------------------------------------------------------------------------------------------------------

async function importKey(secret: string): Promise<CryptoKey> {
  const key = decodeBase64(SECRET.exec(secret)?.[1] ?? "");
  // The message does not contain the secret.
  if (!key?.length) throw rejection("invalid_secret", "A secret is not whsec_ with a key in base64");
  return crypto.subtle.importKey("raw", key, HMAC, false, ["verify"]);
}

// --- Headers ---------------------------------------------------------------------------------------------------------

function readHeader(headers: WebhookHeaders, name: string): string {
  const values = valuesOf(headers, name);
  if (!values[0]) throw rejection("missing_header", `The request has no header ${name}`);
  if (values.length > 1) throw rejection("malformed_header", `The request has several headers ${name}`);
  return values[0];
}

function valuesOf(headers: WebhookHeaders, name: string): readonly string[] {
  const found: string[] = [];
  const collect = (value: string | readonly string[] | undefined, other: string) => {
    if (other.toLowerCase() === name && value !== undefined) found.push(...(typeof value === "string" ? [value] : value));
  };
  if (isIterated(headers)) headers.forEach(collect);
  else for (const [other, value] of Object.entries(headers)) collect(value, other);
  return found;
}

function isIterated(headers: WebhookHeaders): headers is Extract<WebhookHeaders, { forEach(...args: never): void }> {
  return typeof headers.forEach === "function";
}

/** The signatures of version 1. Those of other versions are ignored. */
function parseSignatures(header: string): Uint8Array<ArrayBuffer>[] {
  const parsed = header.split(" ").flatMap((part) => {
    const [, version, text = ""] = SIGNATURE.exec(part) ?? [];
    const signature = decodeBase64(text);
    return version && signature ? [{ version, signature }] : [];
  });
  if (parsed.length === 0) throw rejection("malformed_header", "webhook-signature has no signature");
  return parsed.filter(({ version }) => version === "v1").map(({ signature }) => signature);
}

function checkTimestamp(timestamp: string, options: WebhookVerificationOptions): void {
  const { toleranceSeconds = TOLERANCE_SECONDS, now = Date.now } = options;
  if (!(toleranceSeconds >= 0)) throw new RangeError(`toleranceSeconds is ${toleranceSeconds}: it must be 0 or more`);
  if (!TIMESTAMP.test(timestamp)) throw rejection("malformed_header", "webhook-timestamp is not a number of seconds");
  const age = now() / 1000 - Number(timestamp);
  if (age < -toleranceSeconds) throw rejection("timestamp_too_new", "The request is from the future");
  // Also if the clock returned no number.
  if (!(age <= toleranceSeconds)) throw rejection("timestamp_too_old", `The request is ${Math.round(age)} seconds old`);
}

// --- Signatures ------------------------------------------------------------------------------------------------------

/** Compare each signature with that of each key. `subtle.verify` takes the same time for every signature. */
async function isSigned(
  signed: Uint8Array<ArrayBuffer>,
  signatures: readonly Uint8Array<ArrayBuffer>[],
  keys: readonly CryptoKey[],
): Promise<boolean> {
  for (const key of keys) {
    for (const signature of signatures) {
      if (await crypto.subtle.verify(HMAC, key, signature, signed)) return true;
    }
  }
  return false;
}

// --- Payload ---------------------------------------------------------------------------------------------------------

function bytesOf(payload: string | Uint8Array): Uint8Array {
  if (typeof payload === "string") return new TextEncoder().encode(payload);
  if (payload instanceof Uint8Array) return payload;
  throw new TypeError("payload must be the body as it arrived, a string or a Uint8Array");
}

function parseEvent(body: Uint8Array): WebhookEvent {
  try {
    const event: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body));
    if (isEvent(event)) return event;
  } catch {
    // Neither UTF-8 nor JSON.
  }
  throw rejection("malformed_payload", "The body is not an event");
}

function isEvent(value: unknown): value is WebhookEvent {
  const { type, data } = (value ?? {}) as { type?: unknown; data?: { object?: unknown } | null };
  return typeof type === "string" && typeof data?.object === "object" && data.object !== null;
}

// --- Bytes -----------------------------------------------------------------------------------------------------------

function concatenate(first: Uint8Array, second: Uint8Array): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(first.length + second.length);
  whole.set(first);
  whole.set(second, first.length);
  return whole;
}

/** The bytes of a base64 text; null if it has an impossible length. */
function decodeBase64(text: string): Uint8Array<ArrayBuffer> | null {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}
