import type { ErrorCode, Problem } from "./contract.js";

/** The API's error codes, and `UNEXPECTED_RESPONSE` for an answer that is not in the API's envelope, such as a proxy's. */
export type BillingErrorCode = ErrorCode | "UNEXPECTED_RESPONSE";

/** Base class of the errors of this package. A call that the caller's own `signal` ends rejects with its reason. */
export class BillingError extends Error {
  override readonly name: string = "BillingError";
}

/** No answer arrived: the network, the name, or the server's process. `cause` is what `fetch` said. */
export class BillingConnectionError extends BillingError {
  override readonly name: string = "BillingConnectionError";
}

/** No whole answer arrived within `timeoutMs`. */
export class BillingTimeoutError extends BillingConnectionError {
  override readonly name: string = "BillingTimeoutError";
}

/** The API answered, and refused. */
export class BillingApiError extends BillingError {
  override readonly name: string = "BillingApiError";
  /** The HTTP status. */
  readonly status: number;
  readonly code: BillingErrorCode;
  /** Every problem of a request that was refused with BAD_REQUEST. */
  readonly details: readonly Problem[];
  /** Finds the request in the deployment's logs; null where the answer did not come from the API. */
  readonly requestId: string | null;
  /** After how many seconds the API asks to try again, where it does. */
  readonly retryAfterSeconds: number | null;

  constructor(response: Response, body: unknown) {
    const error = isErrorBody(body) ? body.error : unexpected(response.status);
    super(error.message);
    this.status = response.status;
    this.code = error.code;
    this.details = error.details ?? [];
    this.requestId = response.headers.get("x-request-id");
    this.retryAfterSeconds = parseRetryAfter(response.headers.get("retry-after"), Date.now());
  }
}

/** Reason why a webhook request is rejected. */
export type WebhookVerificationReason =
  | "missing_header"
  | "malformed_header"
  | "timestamp_too_old"
  | "timestamp_too_new"
  | "no_matching_signature"
  | "malformed_payload"
  | "invalid_secret";

/** A request that is not a valid webhook request of the API. Respond to it with 400. */
export class WebhookVerificationError extends BillingError {
  override readonly name: string = "WebhookVerificationError";
  /** `invalid_secret` is an error of the receiver's configuration; all others are errors of the request. */
  readonly reason: WebhookVerificationReason;

  constructor(reason: WebhookVerificationReason, message: string) {
    super(message);
    this.reason = reason;
  }
}

interface Told {
  code: BillingErrorCode;
  message: string;
  details?: readonly Problem[];
}

function unexpected(status: number): Told {
  return { code: "UNEXPECTED_RESPONSE", message: `HTTP ${status} with a body that is not the billing API's` };
}

function isErrorBody(body: unknown): body is { error: Told } {
  const { code, message, details = [] } = (body as { error?: Partial<Told> | null } | null)?.error ?? {};
  return typeof code === "string" && typeof message === "string" && Array.isArray(details);
}

/** The seconds of a Retry-After header, a number or an HTTP date (RFC 9110, 10.2.3); null if it is neither. */
function parseRetryAfter(value: string | null, now: number): number | null {
  if (value === null) return null;
  if (/^\d+$/.test(value)) return Number(value);
  const at = value.endsWith("GMT") ? Date.parse(value) : NaN;
  return Number.isNaN(at) ? null : Math.max(0, (at - now) / 1000);
}
