// The same server on the official TypeScript library; it can break a stream off in the middle of a call.
// `server.mjs [PORT]` prints {"ready":true,"url":..} and runs until its standard input ends.
import { createHmac, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { localhostHostValidation, localhostOriginValidation, NodeStreamableHTTPServerTransport, toNodeHandler, toWebRequest } from "@modelcontextprotocol/node";
import { createMcpHandler, fromJsonSchema, isLegacyRequest, McpServer, MissingRequiredClientCapabilityError, ProtocolError, ResourceNotFoundError } from "@modelcontextprotocol/server";

const fixtures = JSON.parse(readFileSync(new URL("fixtures.json", import.meta.url), "utf8"));
const FRESH = { ttlMs: 60_000, cacheScope: "public" };
const text = (text) => ({ content: [{ type: "text", text }] });
const invalid = (message, data) => new ProtocolError(-32602, message, data);
/** Seals a `requestState`; a fixture has no secrets. */
const seal = (round) => `${round}.${createHmac("sha256", "no secret").update(`${round}`).digest("hex")}`;
/** Tools of the tasks extension, which this library does not have. */
const TASKS = ["greet", "slow_compute", "failing_job", "protocol_error_job", "confirm_delete", "multi_input", "test_tool_with_task"];

/** Which capability a request to the client needs. */
const NEEDS = { "elicitation/create": "elicitation", "sampling/createMessage": "sampling", "roots/list": "roots" };

/** A call of several rounds: what has to be asked next, or the answers. */
function play(name, { inputResponses = {}, requestState }, capabilities) {
  const { sealed = false, rounds } = fixtures.rounds[name];
  const state = sealed ? requestState() : undefined;
  const at = state === undefined ? 0 : Number.parseInt(state);
  if (state !== undefined && state !== seal(at)) throw invalid("requestState was changed");
  const asked = (round) => rounds[round] && Object.fromEntries(Object.entries(rounds[round]).filter(([, { method }]) => capabilities[NEEDS[method]]));
  const answered = Object.keys(asked(at) ?? {}).every((key) => typeof inputResponses[key] === "object");
  const next = answered ? at + 1 : at;
  if (!asked(next)) return { answers: inputResponses };
  return { ask: { resultType: "input_required", inputRequests: asked(next), ...(sealed && { requestState: seal(next) }) } };
}

/** Tools that do something while they run. */
const behaviours = {
  async test_tool_with_logging(_, { mcpReq }) {
    for (const said of ["Tool execution started", "Tool processing data", "Tool execution completed"]) {
      await mcpReq.log("info", said);
      await sleep(50);
    }
    return text("logged");
  },
  async test_logging_tool(_, { mcpReq }) {
    await mcpReq.log("info", "logged on request");
    return text("logged if wanted");
  },
  async test_tool_with_progress(_, { mcpReq }) {
    const progressToken = mcpReq._meta?.progressToken;
    for (const progress of [0, 50, 100]) {
      if (progressToken !== undefined) await mcpReq.notify({ method: "notifications/progress", params: { progressToken, progress, total: 100 } });
      await sleep(50);
    }
    return text("done");
  },
  async test_sampling({ prompt }, { mcpReq }) {
    const { content } = await mcpReq.requestSampling({ messages: [{ role: "user", content: { type: "text", text: prompt } }], maxTokens: 100 });
    return text(`LLM response: ${JSON.stringify(content)}`);
  },
  async test_reconnection(_, { http }) {
    http?.closeSSE?.();
    await sleep(200);
    return text("answered after the stream was broken off");
  },
  test_missing_capability(_, context) {
    if (!capabilitiesOf(context).sampling) throw new MissingRequiredClientCapabilityError({ requiredCapabilities: { sampling: {} } });
    return text("sampling is there");
  },
  test_trigger_tool_change() {
    modern.notify.toolsChanged();
    return text("announced");
  },
  test_trigger_prompt_change() {
    modern.notify.promptsChanged();
    return text("announced");
  },
};

const capabilitiesOf = ({ mcpReq }) => mcpReq.envelope?.["io.modelcontextprotocol/clientCapabilities"] ?? {};

async function call(name, args, context) {
  if (fixtures.answers[name]) return fixtures.answers[name];
  if (fixtures.rounds[name]) {
    const { ask, answers } = play(name, context.mcpReq, capabilitiesOf(context));
    return ask ?? text(`state-ok: ${JSON.stringify(answers)}`);
  }
  if (fixtures.elicitations[name]) {
    const asked = fixtures.elicitations[name];
    const { action, content } = await context.mcpReq.elicitInput({ ...asked, message: asked.message || args.message });
    return text(`Elicitation completed: action=${action}, content=${JSON.stringify(content)}`);
  }
  if (!behaviours[name]) throw invalid("no such tool", { name });
  return behaviours[name](args, context);
}

function read({ params: { uri } }) {
  const id = /^test:\/\/template\/(.*)\/data$/.exec(uri)?.[1];
  const made = id && { uri, mimeType: "application/json", text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }) };
  const contents = fixtures.contents[uri] ?? made;
  if (!contents) throw new ResourceNotFoundError(uri);
  return { contents: [contents], ...FRESH };
}

function prompt({ params: { name, arguments: args = {} } }, context) {
  if (fixtures.rounds[name]) {
    const { ask, answers } = play(name, context.mcpReq, capabilitiesOf(context));
    return ask ?? { messages: [{ role: "user", content: { type: "text", text: JSON.stringify(answers) } }] };
  }
  if (!fixtures.messages[name]) throw invalid("no such prompt", { name });
  const fill = (whole, argument) => args[argument] ?? whole;
  const messages = JSON.stringify(fixtures.messages[name], (_, value) => (typeof value === "string" ? value.replaceAll(/\{(\w+)\}/g, fill) : value));
  return { messages: JSON.parse(messages) };
}

function make() {
  const capabilities = { completions: {}, logging: {}, prompts: { listChanged: true }, resources: { subscribe: true }, tools: { listChanged: true } };
  const mcp = new McpServer({ name: "conformance", version: "1.0.0" }, { capabilities, cacheHints: { "tools/list": FRESH, "server/discover": FRESH } });
  for (const { name, description, inputSchema } of fixtures.tools) {
    if (TASKS.includes(name)) continue;
    // The registration is for the list and for the check of `Mcp-Param-*` headers.
    mcp.registerTool(name, { description, inputSchema: fromJsonSchema(inputSchema) }, () => {});
  }
  const { server } = mcp;
  // Unlike a registered tool, this can fail with a JSON-RPC error.
  server.setRequestHandler("tools/call", ({ params }, context) => call(params.name, params.arguments ?? {}, context));
  server.setRequestHandler("resources/list", () => ({ resources: fixtures.resources, ...FRESH }));
  server.setRequestHandler("resources/templates/list", () => ({ resourceTemplates: fixtures.resourceTemplates, ...FRESH }));
  server.setRequestHandler("resources/read", read);
  server.setRequestHandler("resources/subscribe", () => ({}));
  server.setRequestHandler("resources/unsubscribe", () => ({}));
  server.setRequestHandler("prompts/list", () => ({ prompts: fixtures.prompts, ...FRESH }));
  server.setRequestHandler("prompts/get", prompt);
  server.setRequestHandler("completion/complete", ({ params: { argument } }) => ({ completion: { values: ["paris", "park", "party"].filter((word) => word.startsWith(argument.value)) } }));
  return mcp;
}

/** Events of one session; an id names its stream and its place. */
class Events {
  #events = [];
  async storeEvent(stream, message) {
    this.#events.push({ stream, message });
    return `${this.#events.length}`;
  }
  async getStreamIdForEventId(id) {
    return this.#events[id - 1]?.stream;
  }
  async replayEventsAfter(id, { send }) {
    const { stream } = this.#events[id - 1];
    for (const [at, event] of this.#events.entries()) if (at >= Number(id) && event.stream === stream) await send(`${at + 1}`, event.message);
    return stream;
  }
}

const modern = createMcpHandler(make, { legacy: "reject" });
const serveModern = toNodeHandler(modern);
const sessions = new Map();

/** The 2025 revisions: one server per session. */
async function serveLegacy(request, response, body) {
  const id = request.headers["mcp-session-id"];
  let transport = sessions.get(id);
  if (!transport && id) return response.writeHead(404).end();
  if (!transport) {
    transport = new NodeStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: new Events(),
      retryInterval: 300,
      onsessioninitialized: (id) => void sessions.set(id, transport),
      onsessionclosed: (id) => void sessions.delete(id),
    });
    await make().connect(transport);
  }
  await transport.handleRequest(request, response, body);
}

const [hostIsLocal, originIsLocal] = [localhostHostValidation(), localhostOriginValidation()];
const http = createServer(async (request, response) => {
  if (!hostIsLocal(request, response) || !originIsLocal(request, response)) return;
  const chunks = await Array.fromAsync(request);
  let body;
  try {
    body = chunks.length > 0 ? JSON.parse(Buffer.concat(chunks)) : undefined;
  } catch {
    return response.writeHead(400).end();
  }
  if (await isLegacyRequest(await toWebRequest(request, body), body)) await serveLegacy(request, response, body);
  else await serveModern(request, response, body);
});
http.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => {
  console.log(JSON.stringify({ ready: true, url: `http://127.0.0.1:${http.address().port}/mcp` }));
});
process.stdin.resume().on("end", () => process.exit());
