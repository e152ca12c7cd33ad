// A client for the client scenarios of MCP's conformance suite, on the official library: lists everything, calls everything once.
// `client.mjs URL`; the suite says in the environment which revision is spoken and which arguments it wants.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const url = new URL(process.argv.at(-1));
const revision = process.env.MCP_CONFORMANCE_PROTOCOL_VERSION ?? "2025-11-25";
const scenario = process.env.MCP_CONFORMANCE_SCENARIO ?? "";
const { toolCalls = [] } = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? "{}");
const modern = revision >= "2026-07-28";

const client = new Client(
  { name: "conformance-client", version: "1.0.0" },
  {
    capabilities: { elicitation: { form: { applyDefaults: true } }, roots: {}, sampling: {} },
    // `auto` asks server/discover first and takes a version that both know.
    versionNegotiation: { mode: modern ? "auto" : "legacy" },
  },
);
const defaults = scenario.includes("defaults");
client.setRequestHandler("elicitation/create", () => ({ action: "accept", content: defaults ? {} : { confirmed: true } }));
await client.connect(new StreamableHTTPClientTransport(url));

const has = client.getServerCapabilities() ?? {};
const { tools } = await client.listTools();
for (const tool of tools) {
  const given = toolCalls.filter((call) => call.name === tool.name).map((call) => call.arguments);
  for (const args of given.length > 0 ? given : [{ a: 2, b: 3, ...schemaOf(tool) }]) await attempt(() => client.callTool({ name: tool.name, arguments: args }));
}
if (has.resources) for (const { uri } of (await client.listResources()).resources) await attempt(() => client.readResource({ uri }));
if (has.prompts) for (const { name } of (await client.listPrompts()).prompts) await attempt(() => client.getPrompt({ name }));
await client.close();

/** The suite compares the schema that a client saw with the one that it served. */
function schemaOf(tool) {
  return tool.name === "json_schema_echo" ? { schema: tools.find((seen) => seen.name === "json_schema_2020_12_tool")?.inputSchema } : {};
}

/** Whether a call works is for the suite to judge; a scenario's server need not serve what it lists. */
async function attempt(call) {
  try {
    await call();
  } catch (error) {
    console.error(`${scenario}: ${error.message}`);
  }
}
