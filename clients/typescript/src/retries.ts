import { BillingApiError, BillingConnectionError } from "./errors.js";

const FIRST_BACKOFF_MS = 500;

/**
 * How long to wait before the next try, in milliseconds; null where another try cannot help or may only come too late.
 *
 * Exponential backoff with full jitter, and never less than the API's own Retry-After.
 * https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export function retryDelayMs(error: unknown, tries: number, maxDelayMs: number): number | null {
  if (!isTransient(error)) return null;
  const backoffMs = Math.random() * Math.min(maxDelayMs, FIRST_BACKOFF_MS * 2 ** (tries - 1));
  const askedMs = error instanceof BillingApiError ? (error.retryAfterSeconds ?? 0) * 1000 : 0;
  return askedMs > maxDelayMs ? null : Math.max(askedMs, backoffMs);
}

function isTransient(error: unknown): boolean {
  if (!(error instanceof BillingApiError)) return error instanceof BillingConnectionError;
  return error.status === 429 || error.status >= 500 || isStillRunning(error);
}

/** The first request with this call's idempotency key has not been answered yet: its answer can be had soon. */
function isStillRunning(error: BillingApiError): boolean {
  return error.status === 409 && error.code === "IDEMPOTENCY_KEY_REUSE" && error.retryAfterSeconds !== null;
}

/** Wait; rejects with the signal's reason as soon as it is aborted. */
export function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", abort, { once: true });
  });
}
