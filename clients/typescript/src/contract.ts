/** The names that this client gives to what the OpenAPI document describes. */

import type { components, operations, paths, webhooks } from "./openapi.js";

type Json<Body> = { content: { "application/json": Body } };
type Data<Operation> = Operation extends { responses: { 200: Json<{ data: infer Content }> } } ? Content : never;
type Body<Operation> = Operation extends { requestBody?: Json<infer Content> } ? Content : never;
type Answers<Operation> = Operation extends { responses: infer ByStatus } ? ByStatus[keyof ByStatus] : never;
type Code<Answer> = Answer extends Json<{ error: { code: infer Text } }> ? Text : never;

/** A path of the organization contract, from the API's origin. */
export type Path = keyof paths;

/** The account's plan and the state of its subscription; nulls where it never had one. */
export type Subscription = Data<paths["/api/billing/subscription"]["get"]>;

/** What to subscribe to, and where Stripe's page leads afterwards. */
export type CheckoutRequest = Body<paths["/api/billing/checkout"]["post"]>;

/** `url` is Stripe's page, on which the user pays. */
export type CheckoutSession = Data<paths["/api/billing/checkout"]["post"]>;

/** Where the portal's way back leads. */
export type PortalRequest = Body<paths["/api/billing/portal"]["post"]>;

/** `url` is Stripe's page, on which the user manages plan, cards and invoices. */
export type PortalSession = Data<paths["/api/billing/portal"]["post"]>;

/** What the account has used in its billing period, for each metric; a `limit` of null is none. */
export type Usage = Data<paths["/api/billing/usage"]["get"]>;

/** What a request may be refused for. */
export type ErrorCode = Code<Answers<operations[keyof operations]>>;

/** One thing that is wrong with a request. */
export type Problem = components["schemas"]["Problem"];

type EventOf<Type extends keyof webhooks> = Body<webhooks[Type]["post"]> & { type: Type };

/** Type of an event that this version of the client knows. */
export type WebhookEventType = keyof webhooks;

/** An event of a type that this version of the client knows. */
export type KnownWebhookEvent = { [Type in WebhookEventType]: EventOf<Type> }[WebhookEventType];

/** Any string that is not a known type. It exists only as a type: the type `string` would prevent narrowing. */
declare enum UnknownType {
  Any = "…",
}

/** An event of a type that was added to the API after this version of the client. Ignore it. */
export interface UnknownWebhookEvent extends Omit<KnownWebhookEvent, "type" | "data"> {
  type: UnknownType;
  data: { object: Record<string, unknown>; previous: Record<string, unknown> | null };
}

/** An event as the API sends it to webhook endpoints. Compare its `type` to narrow `data`. */
export type WebhookEvent = KnownWebhookEvent | UnknownWebhookEvent;
