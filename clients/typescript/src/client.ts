import type {
  CheckoutRequest,
  CheckoutSession,
  PortalRequest,
  PortalSession,
  Subscription,
  Usage,
} from "./contract.js";
import { type ApiRequest, type Transport, send } from "./transport.js";

/** What a timer of browsers and of Node can count to; beyond it they would fire at once. */
const TIMER_MAX = 2 ** 31 - 1;

/** A session token, or what returns one; it is asked before each try, so that tokens may be short-lived. */
export type TokenSource = string | (() => string | Promise<string>);

export interface BillingClientOptions {
  /**
   * Where the API is, without `/api/billing`. By default the environment's `BILLING_API_URL`, and without that the
   * page's own origin.
   */
  baseUrl?: string;
  /** The user's session token. By default the environment's `BILLING_SESSION_TOKEN`; without any, none is sent. */
  token?: TokenSource;
  /** Replaces the global `fetch`. */
  fetch?: typeof globalThis.fetch;
  /** How long one try may take: 30,000 by default, as long as API Gateway waits. */
  timeoutMs?: number;
  /** How often a call is repeated after 429, 5xx or no answer: 2 by default. */
  maxRetries?: number;
  /** The longest wait before a retry: 10,000 by default. Where the API asks for a longer one, the call fails at once. */
  maxRetryDelayMs?: number;
}

export interface CallOptions {
  /** Ends the call, also while it waits for a retry; it then rejects with the signal's reason. */
  signal?: AbortSignal;
}

export interface PostOptions extends CallOptions {
  /**
   * 1 to 255 visible ASCII characters that stand for this request for 24 hours: however often it is sent, it has one
   * effect. By default each call makes its own, for its retries.
   */
  idempotencyKey?: string;
}

/** The billing of the account that the token names. Every method rejects with a `BillingError`. */
export interface BillingClient {
  getSubscription(options?: CallOptions): Promise<Subscription>;
  /** Start a subscription: send the user to the session's `url`. */
  createCheckout(request: CheckoutRequest, options?: PostOptions): Promise<CheckoutSession>;
  /** Let the user manage a subscription: send them to the session's `url`. */
  createPortal(request?: PortalRequest, options?: PostOptions): Promise<PortalSession>;
  getUsage(options?: CallOptions): Promise<Usage>;
}

/** Make a client. Throws RangeError for a number that makes no sense. */
export function createBillingClient(options: BillingClientOptions = {}): BillingClient {
  const transport = transportOf(options);
  const get = (path: ApiRequest["path"], { signal }: CallOptions = {}) =>
    send(transport, { method: "GET", path, signal });
  const post = (path: ApiRequest["path"], body: object, { signal, idempotencyKey = newKey() }: PostOptions = {}) =>
    send(transport, { method: "POST", path, body, idempotencyKey, signal });
  return {
    getSubscription: (call) => get("/api/billing/subscription", call) as Promise<Subscription>,
    createCheckout: (request, call) => post("/api/billing/checkout", request, call) as Promise<CheckoutSession>,
    createPortal: (request = {}, call) => post("/api/billing/portal", request, call) as Promise<PortalSession>,
    getUsage: (call) => get("/api/billing/usage", call) as Promise<Usage>,
  };
}

function transportOf(options: BillingClientOptions): Transport {
  const { baseUrl, token, timeoutMs = 30_000, maxRetries = 2, maxRetryDelayMs = 10_000 } = options;
  requireNumber("timeoutMs", timeoutMs, 1);
  requireNumber("maxRetries", maxRetries, 0);
  requireNumber("maxRetryDelayMs", maxRetryDelayMs, 0);
  return {
    baseUrl: () => baseUrl ?? environment("BILLING_API_URL") ?? "",
    token: typeof token === "function" ? token : () => token ?? environment("BILLING_SESSION_TOKEN"),
    fetch: options.fetch ?? ((...request) => globalThis.fetch(...request)),
    timeoutMs,
    maxRetries,
    maxRetryDelayMs,
  };
}

function requireNumber(name: string, value: number, min: number): void {
  if (Number.isInteger(value) && value >= min && value <= TIMER_MAX) return;
  throw new RangeError(`${name} is ${value}: it takes an integer from ${min} to ${TIMER_MAX}`);
}

/** A variable of the process's environment, where there is a process. */
function environment(name: string): string | undefined {
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
  return process?.env?.[name];
}

/** 128 random bits. `crypto.randomUUID` is missing on pages that are served without TLS, as in development. */
function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
