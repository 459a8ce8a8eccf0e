// aimock as the provider of every format, with a fault or a delay for each request.
//
//   node aimock.mjs ENVIRONMENT SEED
//
// The faults are aimock's own. Which one a request meets is drawn from the seed, the turn, the step and the attempt,
// so the same seed gives the same faults however the requests are interleaved. The fault rates of aimock roll one
// after the other; drawing here makes it 20 % of each.
//
// A turn is `turn N`. By N modulo 4 it takes: an answer; one call, an answer; two calls at once, an answer; a call, a
// call, an answer. Each call appends a line of its own to a file.
//
// Prints `listening URL`. A line on standard input makes it print, as one line of JSON, what it was asked and what it
// gave, and end.
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const [environment, seed] = process.argv.slice(2);
const { LLMock } = createRequire(join(environment, "package.json"))("@copilotkit/aimock");

const LATENCY_MS = 200;
const FAULTS = ["drop", "ratelimit", "malformed", "disconnect", "latency"];

// FNV-1a, then a mix: enough to spread small numbers evenly.
function draw(text) {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x45d9f3b);
  hash = Math.imul(hash ^ (hash >>> 16), 0x45d9f3b);
  return (hash ^ (hash >>> 16)) >>> 0;
}

const textOf = (content) =>
  typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? "").join("");

// What was asked, request by request; a fault that is half a stream is told from one before the first byte.
const asked = [];
const attempts = new Map();
const seen = new WeakMap();

function look(request) {
  const known = seen.get(request);
  if (known) return known;
  const { messages, model } = request;
  const last = messages.findLastIndex((message) => message.role === "user");
  const turn = Number(/^turn (\d+)$/.exec(textOf(messages[last]?.content))?.[1] ?? Number.NaN);
  const results = messages.slice(last + 1).filter((message) => message.role === "tool").length;
  const place = `${turn}/${results}`;
  const attempt = (attempts.get(place) ?? 0) + 1;
  attempts.set(place, attempt);
  const drawn = draw(`${seed}/${place}/${attempt}`);
  let fault = FAULTS[drawn % FAULTS.length];
  if (fault === "disconnect" && (drawn >>> 16) & 1) fault = "truncate";
  const entry = { turn, results, attempt, fault, model, usage: null, calls: 0 };
  seen.set(request, entry);
  asked.push(entry);
  return entry;
}

function answer(request) {
  const entry = look(request);
  const { turn, results, attempt } = entry;
  const usage = { prompt_tokens: 100 + (turn % 89), completion_tokens: 5 + (turn % 7) + attempt };
  const plan = { 0: [], 1: [1], 2: [2], 3: [1, 1] }[turn % 4];
  let done = 0;
  const due = plan.find((calls) => results < (done += calls));
  if (entry.fault === "latency") Object.assign(entry, { usage, calls: due ?? 0 });
  if (due === undefined) return { content: `answer ${turn}, said at length to make several pieces of it`, usage };
  const toolCalls = Array.from({ length: due }, (_, index) => ({
    id: `call_${turn}_${results + index}_${attempt}`,
    name: "file__append",
    arguments: JSON.stringify({ path: "lines.txt", content: `${turn}.${results + index}\n` }),
  }));
  return { toolCalls, usage };
}

const mock = new LLMock({ port: 0, host: "127.0.0.1", chunkSize: 8, journalMaxEntries: 1 });
const faults = {
  drop: { chaos: { dropRate: 1 } },
  ratelimit: { chaos: { rateLimitRate: 1 } },
  malformed: { chaos: { malformedRate: 1 } },
  disconnect: { chaos: { disconnectRate: 1 } },
  // A pause between the pieces, so that the first ones have gone out when it breaks off.
  truncate: { truncateAfterChunks: 3, latency: 5 },
  latency: { chaos: { latencyMs: LATENCY_MS } },
};
for (const [fault, options] of Object.entries(faults)) {
  mock.addFixture({ match: { predicate: (request) => look(request).fault === fault }, response: answer, ...options });
}

const url = await mock.start();
console.log(`listening ${url}`);
createInterface({ input: process.stdin }).once("line", () => {
  // Connections that are kept open would hold up a `mock.stop()`; the end of the process closes them.
  process.stdout.write(`${JSON.stringify(asked)}\n`, () => process.exit(0));
});
