import type { Path } from "./contract.js";
import { BillingApiError, BillingConnectionError, BillingTimeoutError } from "./errors.js";
import { retryDelayMs, sleep } from "./retries.js";

const VISIBLE = /^[!-~]+$/;

/** How to reach the API. Addresses and tokens are asked for anew on each try. */
export interface Transport {
  baseUrl: () => string;
  token: () => string | undefined | Promise<string | undefined>;
  fetch: typeof globalThis.fetch;
  timeoutMs: number;
  maxRetries: number;
  maxRetryDelayMs: number;
}

/** One call of the API. `body` is what JSON makes of it; only a POST has one, and an idempotency key. */
export interface ApiRequest {
  method: "GET" | "POST";
  path: Path;
  body?: object;
  idempotencyKey?: string;
  signal?: AbortSignal | undefined;
}

/** The `data` of the API's answer. Rejects with a BillingError, or with the reason of an aborted signal. */
export async function send(transport: Transport, request: ApiRequest): Promise<unknown> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await sendOnce(transport, request);
    } catch (error) {
      const delayMs = tries > transport.maxRetries ? null : retryDelayMs(error, tries, transport.maxRetryDelayMs);
      if (delayMs === null) throw error;
      await sleep(delayMs, request.signal);
    }
  }
}

async function sendOnce(transport: Transport, request: ApiRequest): Promise<unknown> {
  const url = addressOf(transport.baseUrl(), request.path);
  const headers = headersOf(request, await transport.token());
  const { response, text } = await exchange(transport, request, url, headers);
  const body = parseJson(text);
  if (response.ok && isSuccess(body)) return body.data;
  throw new BillingApiError(response, body);
}

async function exchange(transport: Transport, request: ApiRequest, url: URL, headers: Headers) {
  const { fetch, timeoutMs } = transport;
  const { method, body, signal } = request;
  const timeout = AbortSignal.timeout(timeoutMs);
  try {
    const response = await fetch(url, {
      method,
      headers,
      body: body ? JSON.stringify(body) : null,
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
    // Within the timeout and the retries too: a body may stop half-way.
    return { response, text: await response.text() };
  } catch (cause) {
    signal?.throwIfAborted();
    if (timeout.aborted) throw new BillingTimeoutError(`No answer from ${url.origin} within ${timeoutMs} ms`, { cause });
    throw new BillingConnectionError(`No answer from ${url.origin}`, { cause });
  }
}

function addressOf(baseUrl: string, path: Path): URL {
  try {
    return new URL(baseUrl.replace(/\/+$/, "") + path, globalThis.location?.href);
  } catch {
    throw new TypeError(`baseUrl "${baseUrl}" is no address: give one in the options or in BILLING_API_URL`);
  }
}

function headersOf({ body, idempotencyKey }: ApiRequest, token: string | undefined): Headers {
  // What `Headers` would say of an impossible value shows the value.
  if (token && !VISIBLE.test(token)) throw new TypeError("The session token has characters that no token has");
  if (idempotencyKey !== undefined && !VISIBLE.test(idempotencyKey)) {
    throw new TypeError("An idempotency key is 1 to 255 visible ASCII characters");
  }
  const headers = new Headers({ accept: "application/json" });
  if (token) headers.set("authorization", `Bearer ${token}`);
  if (body) headers.set("content-type", "application/json");
  if (idempotencyKey) headers.set("idempotency-key", idempotencyKey);
  return headers;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function isSuccess(body: unknown): body is { data: unknown } {
  return typeof body === "object" && body !== null && "success" in body && body.success === true && "data" in body;
}
