// Uses the types that are generated from openapi.json. It is compiled, and not run.
import type { components, operations } from "./baton";

type Schemas = components["schemas"];
type Listing = NonNullable<operations["listRuns"]["parameters"]["query"]>;

export async function start(body: Schemas["NewRun"]): Promise<Schemas["PendingRun"] | Schemas["EndedRun"]> {
  const headers: operations["startRun"]["parameters"]["header"] = { "Idempotency-Key": "order 4711" };
  const reply = await fetch("/api/runs", { method: "POST", headers, body: JSON.stringify(body) });
  if (reply.ok) return (await reply.json()) as Schemas["Run"];
  const problem: Schemas["Problem"] = await reply.json();
  throw new Error(problem.code === "session_busy" ? "Another run is pending." : problem.detail);
}

export async function read(id: Schemas["RunId"]): Promise<Schemas["Run"]> {
  return (await (await fetch(`/api/runs/${id}`)).json()) as Schemas["Run"];
}

export function describe(run: Schemas["Run"]): string {
  // Only a pending run has no time of its end, so the compiler knows which of the two it is.
  if (run.completed_at === null) {
    const missing: null = run.output_text;
    return `${run.progress.activity}, ${run.waiting_for?.message ?? missing}`;
  }
  if (run.error) return `${run.error.code}: ${run.error.message}`;
  const seconds: number = run.duration_seconds;
  const types = run.output.map((item) => item["type"]);
  return `${run.output_text} (${seconds} seconds, ${run.usage?.total_tokens ?? "unknown"} tokens, ${types.length} items)`;
}

export function answer(run: Schemas["Run"]): string | undefined {
  // So does one of the statuses.
  return run.status === "completed" ? run.output_text.trim() : undefined;
}

export function summarise(page: Schemas["RunList"]): string[] {
  return page.data.map((run) => `${run.input_excerpt} ${run.completed_at ?? run.status} ${run.retry_of ?? ""}`);
}

export function text(events: Schemas["EventList"]): string {
  return events.data.map((event) => (event.type === "text.delta" ? (event.text ?? "") : "")).join("");
}

// Answer each call that a run waits for.
export async function answerAll(run: Schemas["Run"], decide: (call: Schemas["RequiredCall"]) => Schemas["NewAnswer"]): Promise<string[]> {
  const statuses: Schemas["RunStatus"][] = [];
  for (const call of run.required_action ?? []) {
    const body = JSON.stringify(decide(call));
    const reply = await fetch(`/api/runs/${run.id}/calls/${call.id}`, { method: "POST", body });
    if (reply.ok) statuses.push(((await reply.json()) as Schemas["AnsweredCall"]).run_status);
  }
  return statuses;
}

export const approve: Schemas["NewAnswer"] = { approve: true, arguments: { amount: 50 } };
export const refuse: Schemas["NewAnswer"] = { approve: false, reason: "Paid before." };
export const output: Schemas["NewAnswer"] = { output: { mass_kg: 41000 } };
export const failure: Schemas["NewAnswer"] = { error: "There is no such ship." };

export function waits(page: Schemas["WaitList"]): string[] {
  return page.data.map((call) => `${call.owner} ${call.agent} ${call.name} ${call.arguments} ${call.expires_at ?? ""}`);
}

export function decided(call: Schemas["Call"]): string {
  if (call.answer === null) return call.type === "approval" ? "undecided" : call.status;
  return `${call.answer.type} by ${call.answer.by_name ?? call.answer.by ?? "nobody"}: ${call.answer.reason ?? ""}`;
}

export const tools: Schemas["NewRun"] = {
  agent: "scripted",
  input: "Hi",
  tools: [{ type: "function", name: "look_up_ship", parameters: { type: "object", properties: {} } }],
  caller_calls: "end",
};

export const items: Schemas["NewRun"] = {
  agent: "scripted",
  input: [
    { role: "user", content: [{ type: "input_text", text: "Hi" }] },
    { type: "custom_tool_call_output", call_id: "call_1", output: "42" },
  ],
  metadata: { order: "4711" },
};
export const listing: Listing = { status: "completed", metadata: { order: "4711" }, limit: 5 };
export type Refused = operations["listRuns"]["responses"][401];
