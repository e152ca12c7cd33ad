// An MCP host on the official SDK: plays a script against one server and prints one JSON line per step, with all that was heard.
// The server is a command after `--`, a Streamable HTTP endpoint (--url), or a key on Nostr (--relay, --server).
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { PrivateKeySigner } from '@contextvm/sdk/signer';
import { NostrClientTransport } from '@contextvm/sdk/transport';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { CreateMessageRequestSchema, ElicitRequestSchema, ListRootsRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { z } from 'zod';
import { Steps, check, pause, until } from './steps.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    script: { type: 'string' },
    root: { type: 'string', default: '/interop' },
    url: { type: 'string' },
    relay: { type: 'string' },
    server: { type: 'string' },
    'no-answers': { type: 'boolean', default: false },
    timeout: { type: 'string', default: '15000' },
  },
});
const timeout = Number(values.timeout);
const script = JSON.parse(readFileSync(values.script, 'utf8').replaceAll('$ROOT', values.root));
const steps = new Steps({ timeout: timeout + 5000 });
// The ContextVM SDK has no requests from servers.
const answers = values.server === undefined && !values['no-answers'];

const client = new Client(
  { name: 'interop-host', version: '1.0.0' },
  { capabilities: answers ? { sampling: {}, elicitation: { form: {} }, roots: { listChanged: true } } : {} },
);
let asked = [];
const answering = (answer) => (request) => {
  asked.push({ method: request.method, params: withoutMeta(request.params) });
  return answer;
};
if (answers) {
  const sampled = { model: 'stub', role: 'assistant', stopReason: 'endTurn', content: { type: 'text', text: 'sampled 4711' } };
  client.setRequestHandler(CreateMessageRequestSchema, answering(sampled));
  client.setRequestHandler(ElicitRequestSchema, answering({ action: 'accept', content: { name: 'Ada', check: true, integer: 7 } }));
  client.setRequestHandler(ListRootsRequestSchema, () => ({ roots: [{ uri: `file://${values.root}`, name: 'interop' }] }));
}

// What comes is watched below the library, which loses progress that is right ahead of the answer. Of a request that was given up
// there may be more, as nothing can call back what is on its way.
const wire = { open: new Map(), given: new Set(), told: [], faults: [] };
function watch(message) {
  if (message.method === 'notifications/progress') {
    const { progressToken, ...progress } = message.params;
    const request = wire.open.get(progressToken);
    if (request !== undefined) request.push(progress);
    else if (!wire.given.has(progressToken)) wire.faults.push(`progress for no open request: ${JSON.stringify(message)}`);
  } else if (message.method !== undefined && message.id === undefined) {
    wire.told.push(message);
  } else if (message.method === undefined) {
    if (!wire.open.delete(message.id) && !wire.given.has(message.id)) wire.faults.push(`answer to no open request: ${JSON.stringify(message)}`);
  }
}
function follow(transport) {
  const send = transport.send.bind(transport);
  transport.onmessage = watch;
  transport.send = (message, ...more) => {
    if (message.method !== undefined && message.id !== undefined) wire.open.set(message.id, []);
    if (message.method === 'notifications/cancelled' && wire.open.delete(message.params.requestId)) {
      wire.given.add(message.params.requestId);
    }
    return send(message, ...more);
  };
  return transport;
}
client.onerror = (error) => {
  const text = String(error?.message ?? error);
  // The library's own loss; `watch` has judged the notification.
  if (!text.includes('unknown token')) wire.faults.push(text);
};

function connect() {
  if (values.url !== undefined) return new StreamableHTTPClientTransport(new URL(values.url));
  if (values.server !== undefined) {
    return new NostrClientTransport({
      signer: new PrivateKeySigner(randomBytes(32).toString('hex')),
      serverPubkey: values.server,
      relayHandler: [values.relay],
      discoveryRelayUrls: [],
      logLevel: process.env.LOG_LEVEL ?? 'silent',
    });
  }
  const [command, ...args] = positionals;
  return new StdioClientTransport({ command, args, stderr: 'ignore', env: process.env });
}

function withoutMeta(params) {
  const { _meta, ...rest } = params ?? {};
  return rest;
}

// Times and random choices of a server are told by pattern and not compared.
function mask(value, patterns) {
  const text = (patterns ?? []).reduce((text, pattern) => text.replaceAll(new RegExp(pattern, 'g'), '*'), JSON.stringify(value));
  return JSON.parse(text);
}

async function play({ method, params, progress, cancel, hear, quiet, masks }) {
  const stop = new AbortController();
  const settings = { timeout, signal: stop.signal };
  const heard = [];
  if (progress || cancel) settings.onprogress = () => {};
  asked = [];
  wire.told = [];
  const answer = client.request({ method, params }, z.any(), settings).then(
    (result) => ({ result }),
    ({ code, message, data }) => ({ error: cancel ? 'cancelled' : { code, message, data } }),
  );
  const request = [...wire.open.values()].at(-1) ?? heard;
  if (cancel) {
    await until(() => request.length > 0, 8000, 'first progress');
    stop.abort('no longer wanted');
    return await answer;
  }
  const seen = await answer;
  // What belongs to no request may come on another connection, later than the answer.
  await pause(50);
  if (hear) {
    await until(() => wire.told.some((told) => told.method === hear), 12_000, hear);
    seen.heard = hear;
  } else if (wire.told.length > 0 && !quiet) {
    seen.told = wire.told.map(({ method, params }) => ({ method, params: withoutMeta(params) }));
  }
  if (progress) seen.progress = [...request];
  if (asked.length > 0) seen.asked = asked;
  return mask(seen, masks);
}

const transport = follow(connect());
await steps.run(
  'initialize',
  async () => {
    await client.connect(transport, { timeout });
    return {
      server: client.getServerVersion(),
      capabilities: client.getServerCapabilities(),
      instructions: client.getInstructions() ?? '',
    };
  },
  { needed: true },
);
// Servers ask for roots and register some tools only after they heard `notifications/initialized`.
await pause(1000);
for (const step of script.filter((step) => answers || !step.asks)) {
  await steps.run(step.step, async () => {
    const seen = await play(step);
    const text = JSON.stringify(seen);
    for (const part of step.expect ?? []) check(text.includes(part), `${part} is not in ${text}`);
    return seen;
  });
}
await steps.run('clean', async () => {
  // A stream that ended too early is asked for again after a second.
  await pause(wire.given.size > 0 ? 1500 : 300);
  check(wire.faults.length === 0, wire.faults);
});
await steps.run('close', async () => {
  if (values.url !== undefined) await transport.terminateSession();
  const start = Date.now();
  await client.close();
  if (positionals[1] === 'use') check(Date.now() - start < 2000, `the child took ${Date.now() - start} ms to end`);
});
steps.finish();
