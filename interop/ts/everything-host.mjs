// An MCP host on the official SDK: spawns the command after `--` over stdio, expects the "everything" reference server
// behind it, and prints one JSON line per step. Without a command it spawns that server itself, as a baseline.
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
  LoggingMessageNotificationSchema,
  ResourceUpdatedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js';
import { z } from 'zod';
import { Steps, check, pause, until } from './steps.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: 'string', multiple: true },
    skip: { type: 'string', multiple: true },
    timeout: { type: 'string', default: '20000' },
    quiet: { type: 'boolean', default: false },
  },
});
const everything = createRequire(import.meta.url).resolve('@modelcontextprotocol/server-everything/dist/index.js');
const [command, ...args] = positionals.length > 0 ? positionals : [process.execPath, everything, 'stdio'];
const split = (list) => (list ?? []).flatMap((text) => text.split(','));
const timeout = Number(values.timeout);
const steps = new Steps({ only: split(values.only), skip: split(values.skip), timeout: timeout + 1000 });

const client = new Client(
  { name: 'everything-host', version: '1.0.0' },
  { capabilities: { sampling: {}, elicitation: { form: {} }, roots: { listChanged: true } } },
);
const heard = { sampling: [], elicitation: [], roots: 0, updated: [], log: [] };
client.setRequestHandler(CreateMessageRequestSchema, (request) => {
  heard.sampling.push(request.params);
  return { model: 'stub', role: 'assistant', stopReason: 'endTurn', content: { type: 'text', text: 'sampled 4711' } };
});
client.setRequestHandler(ElicitRequestSchema, (request) => {
  heard.elicitation.push(request.params);
  return { action: 'accept', content: { name: 'Ada', check: true, integer: 7 } };
});
client.setRequestHandler(ListRootsRequestSchema, () => {
  heard.roots += 1;
  return { roots: [{ uri: 'file:///interop', name: 'interop' }] };
});
client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => {
  heard.updated.push(params.uri);
});
client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => {
  heard.log.push(params);
});
const errors = [];
client.onerror = (error) => errors.push(String(error?.message ?? error));

const transport = new StdioClientTransport({ command, args, stderr: values.quiet ? 'ignore' : 'inherit', env: process.env });
const call = (name, input = {}, settings = {}) =>
  client.callTool({ name, arguments: input }, undefined, { timeout, ...settings });
const textOf = (result) => result.content?.find((part) => part.type === 'text')?.text ?? '';
let tools = [];
const offered = (name) => check(tools.includes(name), `tool ${name} is not offered`);

await steps.run(
  'initialize',
  async () => {
    await client.connect(transport, { timeout });
    return { server: client.getServerVersion(), capabilities: Object.keys(client.getServerCapabilities() ?? {}) };
  },
  { needed: true },
);
// The server registers some tools only after it heard `notifications/initialized`.
await pause(1000);
await steps.run(
  'list-tools',
  async () => {
    tools = (await client.listTools({}, { timeout })).tools.map((tool) => tool.name);
    check(tools.includes('echo'), `tools: ${tools}`);
    return tools;
  },
  { needed: true },
);
await steps.run('list-resources', async () => {
  const { resources } = await client.listResources({}, { timeout });
  check(resources.length > 0, 'no resource');
  return resources.length;
});
await steps.run('list-templates', async () => {
  const { resourceTemplates } = await client.listResourceTemplates({}, { timeout });
  check(resourceTemplates.length > 0, 'no template');
  return resourceTemplates.map((template) => template.uriTemplate);
});
await steps.run('list-prompts', async () => {
  const names = (await client.listPrompts({}, { timeout })).prompts.map((prompt) => prompt.name);
  check(names.includes('simple-prompt') && names.includes('args-prompt'), names);
  return names;
});
await steps.run('ping', async () => {
  await client.ping({ timeout });
});
await steps.run('echo', async () => {
  const message = 'zażółć "gęślą" \\ jaźń \u{1F980}';
  const text = textOf(await call('echo', { message }));
  check(text === `Echo: ${message}`, text);
});
await steps.run('structured-content', async () => {
  offered('get-structured-content');
  const result = await call('get-structured-content', { location: 'Chicago' });
  check(result.structuredContent !== undefined, result);
  return result.structuredContent;
});
await steps.run('image', async () => {
  offered('get-tiny-image');
  const image = (await call('get-tiny-image')).content.find((part) => part.type === 'image');
  check(Buffer.from(image.data, 'base64').subarray(1, 4).toString() === 'PNG', 'not a PNG');
});
await steps.run('long-running', async () => {
  const seen = [];
  const onprogress = ({ progress, total }) => seen.push(`${progress}/${total}`);
  const result = await call('trigger-long-running-operation', { duration: 1, steps: 4 }, { onprogress });
  check(textOf(result).includes('completed'), textOf(result));
  // The SDK may lose the last one, which is right ahead of the answer; its order and the others it may not.
  check(['1/4,2/4,3/4,4/4', '1/4,2/4,3/4'].includes(seen.join()), `progress heard: ${seen}`);
  return seen;
});
await steps.run('resource-read', async () => {
  const { contents } = await client.readResource({ uri: 'demo://resource/dynamic/text/1' }, { timeout });
  check(contents.length === 1 && contents[0].text.length > 0, contents);
  const blob = await client.readResource({ uri: 'demo://resource/dynamic/blob/1' }, { timeout });
  check(typeof blob.contents[0].blob === 'string', blob);
  return contents[0].uri;
});
await steps.run('resource-subscribe', async () => {
  const uri = 'demo://resource/dynamic/text/7';
  await client.subscribeResource({ uri }, { timeout });
  await call('toggle-subscriber-updates');
  try {
    await until(() => heard.updated.includes(uri), 10_000, 'notifications/resources/updated');
  } finally {
    await call('toggle-subscriber-updates');
    await client.unsubscribeResource({ uri }, { timeout });
  }
});
await steps.run('prompt-get', async () => {
  const plain = await client.getPrompt({ name: 'simple-prompt' }, { timeout });
  check(plain.messages.length === 1, plain);
  const filled = await client.getPrompt({ name: 'args-prompt', arguments: { city: 'Kraków' } }, { timeout });
  check(filled.messages[0].content.text.includes('Kraków'), filled);
});
await steps.run('complete', async () => {
  const ref = { type: 'ref/prompt', name: 'completable-prompt' };
  const argument = { name: 'department', value: 'E' };
  const { completion } = await client.complete({ ref, argument }, { timeout });
  check(completion.values.length > 0, completion);
  return completion.values;
});
await steps.run('cancel', async () => {
  const stop = new AbortController();
  const ticks = [];
  const slow = call(
    'trigger-long-running-operation',
    { duration: 4, steps: 20 },
    { signal: stop.signal, onprogress: ({ progress }) => ticks.push(progress) },
  );
  const outcome = slow.then(() => 'answered', () => 'cancelled');
  await until(() => ticks.length > 0, 5000, 'first progress');
  stop.abort('no longer wanted');
  check((await outcome) === 'cancelled', 'answered although cancelled');
  const text = textOf(await call('echo', { message: 'after' }));
  check(text === 'Echo: after', text);
});
await steps.run('sampling', async () => {
  offered('trigger-sampling-request');
  const result = await call('trigger-sampling-request', { prompt: 'hello', maxTokens: 12 });
  check(textOf(result).includes('sampled 4711'), textOf(result));
  check(heard.sampling.length === 1 && heard.sampling[0].maxTokens === 12, heard.sampling);
});
await steps.run('elicitation', async () => {
  offered('trigger-elicitation-request');
  const result = await call('trigger-elicitation-request');
  check(JSON.stringify(result.content).includes('Ada'), result.content);
  check(heard.elicitation.length === 1, heard.elicitation);
});
await steps.run('roots', async () => {
  offered('get-roots-list');
  const text = textOf(await call('get-roots-list'));
  check(text.includes('file:///interop'), text);
});
await steps.run('logging', async () => {
  await client.setLoggingLevel('debug', { timeout });
  await call('toggle-simulated-logging');
  try {
    await until(() => heard.log.length > 0, 12_000, 'notifications/message');
  } finally {
    await call('toggle-simulated-logging');
  }
});
await steps.run('unknown-method', async () => {
  const code = await client.request({ method: 'no/such/method' }, z.any(), { timeout }).then(
    () => 'answered',
    (error) => error.code,
  );
  check(code === -32601, `expected -32601, got ${code}`);
});
await steps.run('unknown-tool', async () => {
  const outcome = await call('no-such-tool').then(
    (result) => (result.isError ? 'isError' : 'answered'),
    (error) => error.code,
  );
  check(outcome === 'isError' || outcome === -32602, `got ${outcome}`);
  return outcome;
});
await steps.run('clean-output', async () => {
  const faults = errors.filter((error) => !error.includes('unknown token'));
  check(faults.length === 0, faults);
});
// The reference server itself does not end with its input.
if (positionals.length === 0) steps.skip.push('close');
await steps.run('close', async () => {
  const child = transport.pid;
  const start = Date.now();
  await client.close();
  const took = Date.now() - start;
  check(took < 2000, `the child took ${took} ms to end after its input ended`);
  return { pid: child, ms: took };
});
steps.finish();
