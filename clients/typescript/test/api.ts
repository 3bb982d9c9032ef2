import { once } from "node:events";
import { type IncomingHttpHeaders, type RequestListener, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";

/** A request as the API received it. */
export interface Received {
  method: string | undefined;
  url: string | undefined;
  headers: IncomingHttpHeaders;
  body: string;
}

/** An answer of the API; a text is sent as it is. */
export interface Answer {
  status?: number;
  headers?: Record<string, string>;
  body: unknown;
}

export const FREE = { plan: "free", status: null, currentPeriodEnd: null, cancelAtPeriodEnd: null };

export const success = (data: unknown): Answer => ({ body: { success: true, data, error: null } });

export const refusal = (
  status: number,
  code: string,
  { headers = {}, ...error }: { headers?: Record<string, string>; message?: string; details?: unknown } = {},
): Answer => ({ status, headers, body: { success: false, data: null, error: { code, message: "No", ...error } } });

/** An API on this machine that gives these answers, one a request, or lets functions take the connection over. */
export async function serve(t: TestContext, ...answers: (Answer | RequestListener)[]) {
  const received: Received[] = [];
  const server = createServer(async (request, response) => {
    const answer = answers[received.length] ?? refusal(500, "INTERNAL_ERROR", { message: "One request too many" });
    const { method, url, headers } = request;
    const arrived: Received = { method, url, headers, body: "" };
    received.push(arrived);
    for await (const chunk of request) arrived.body += chunk;
    if (typeof answer === "function") return answer(request, response);
    const text = typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body);
    response.writeHead(answer.status ?? 200, { "content-type": "application/json", ...answer.headers }).end(text);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, received };
}

/** The same answers from a `fetch` without a network; `count` says how many were given. */
export function answering(...answers: Answer[]) {
  const asked = { count: 0 };
  const fetch = async () => {
    const { body, ...init } = answers[asked.count]!;
    asked.count += 1;
    return Response.json(body, init);
  };
  return { fetch, asked };
}

/** The waits between tries, in milliseconds. None of them is waited for, and chance is always one half. */
export function recordWaits(t: TestContext): number[] {
  const waits: number[] = [];
  t.mock.method(Math, "random", () => 0.5);
  t.mock.method(globalThis, "setTimeout", (done: () => void, ms: number) => {
    waits.push(ms);
    queueMicrotask(done);
  });
  return waits;
}
