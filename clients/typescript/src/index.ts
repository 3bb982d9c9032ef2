export { createBillingClient } from "./client.js";
export type { BillingClient, BillingClientOptions, CallOptions, PostOptions, TokenSource } from "./client.js";
export type {
  CheckoutRequest,
  CheckoutSession,
  PortalRequest,
  PortalSession,
  Problem,
  Subscription,
  Usage,
} from "./contract.js";
export { BillingApiError, BillingConnectionError, BillingError, BillingTimeoutError } from "./errors.js";
export type { BillingErrorCode } from "./errors.js";
