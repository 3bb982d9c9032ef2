export { createBillingClient } from "./client.js";
export type { BillingClient, BillingClientOptions, CallOptions, PostOptions, TokenSource } from "./client.js";
export type {
  CheckoutRequest,
  CheckoutSession,
  KnownWebhookEvent,
  PortalRequest,
  PortalSession,
  Problem,
  Subscription,
  UnknownWebhookEvent,
  Usage,
  WebhookEvent,
  WebhookEventType,
} from "./contract.js";
export {
  BillingApiError,
  BillingConnectionError,
  BillingError,
  BillingTimeoutError,
  WebhookVerificationError,
} from "./errors.js";
export type { BillingErrorCode, WebhookVerificationReason } from "./errors.js";
export { verifyWebhook } from "./webhooks.js";
export type { WebhookHeaders, WebhookVerificationOptions } from "./webhooks.js";
