// Shows one era only of an MCP server on standard streams: `one_era.mjs legacy|modern CMD ARGS...`.
// What belongs to the other era is refused as a server does that has never heard of it.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

const [era, command, ...args] = process.argv.slice(2);
const server = spawn(command, args, { stdio: ["pipe", "inherit", "inherit"] });
server.on("exit", (code) => process.exit(code ?? 1));

const lines = createInterface({ input: process.stdin });
lines.on("close", () => server.stdin.end());
lines.on("line", (line) => {
  const { id, method, params } = JSON.parse(line);
  const modern = method === "server/discover" || params?._meta?.["io.modelcontextprotocol/protocolVersion"] !== undefined;
  const foreign = era === "legacy" ? modern : method === "initialize";
  if (!foreign) server.stdin.write(`${line}\n`);
  else if (id !== undefined) {
    const error = { code: -32601, message: `Method not found: this server speaks ${era === "legacy" ? "2025-11-25" : "2026-07-28"} only` };
    process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", id, error })}\n`);
  }
});
