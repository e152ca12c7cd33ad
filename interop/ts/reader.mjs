// Reads what a server has announced, with the TypeScript SDK's relays and types, and prints one JSON line for each step.
import { computeCommonSchemaHash } from '@contextvm/sdk/core';
import { ApplesauceRelayPool } from '@contextvm/sdk/relay';
import {
  InitializeResultSchema,
  ListPromptsResultSchema,
  ListResourceTemplatesResultSchema,
  ListResourcesResultSchema,
  ListToolsResultSchema,
} from '@modelcontextprotocol/sdk/types.js';
import { verifyEvent } from 'nostr-tools';
import { readOptions } from './options.mjs';
import { Steps, check, pause } from './steps.mjs';

const KINDS = [11316, 11317, 11318, 11319, 11320, 10002, 0];
const SCHEMA = 'io.contextvm/common-schema';
const options = readOptions(['relay', 'server']);
const steps = new Steps(options);
const newest = new Map();
const values = (event, name) => event.tags.filter(([tag]) => tag === name).map(([, value]) => value);
const read = (kind, schema) => {
  const event = newest.get(kind);
  check(event !== undefined, `no event of kind ${kind}`);
  return [event, schema.parse(JSON.parse(event.content))];
};

await steps.run(
  'fetch',
  async () => {
    const pool = new ApplesauceRelayPool(options.relay);
    await pool.connect();
    let over = false;
    await pool.subscribe(
      [{ kinds: KINDS, authors: [options.server] }],
      (event) => {
        check(verifyEvent(event), `event ${event.id} is not signed`);
        const known = newest.get(event.kind);
        if (known === undefined || event.created_at > known.created_at) newest.set(event.kind, event);
      },
      () => (over = true),
    );
    while (!over) await pause(20);
    await pool.disconnect();
    return [...newest.keys()].sort((a, b) => a - b);
  },
  { needed: true },
);
await steps.run('server', async () => {
  const [event, result] = read(11316, InitializeResultSchema);
  check(values(event, 'support_encryption').length === 1, 'no support_encryption tag');
  check(event.tags.every(([tag]) => !['p', 'e', 'd'].includes(tag)), 'tags of a message');
  return result.serverInfo.name;
});
await steps.run('tools', async () => {
  const [event, result] = read(11317, ListToolsResultSchema);
  const names = result.tools.map((tool) => tool.name);
  for (const name of ['echo', 'add']) check(names.includes(name), `tool missing: ${name}`);
  check(result.nextCursor === undefined, 'a cursor that leads nowhere');
  return { names, categories: values(event, 't') };
});
await steps.run('schemas', async () => {
  const [event, result] = read(11317, ListToolsResultSchema);
  const tags = event.tags.filter(([tag]) => tag === 'i');
  check(tags.length > 0 && values(event, 'k').join() === SCHEMA, 'no tags of a common schema');
  for (const [, hash, name] of tags) {
    const tool = result.tools.find((one) => one.name === name);
    const { inputSchema, outputSchema } = tool;
    check(computeCommonSchemaHash({ name, inputSchema, outputSchema }) === hash, `hash of ${name} differs`);
    check(tool._meta?.[SCHEMA]?.schemaHash === hash, `hash of ${name} is not in its _meta`);
  }
  return tags.length;
});
// What a server does not have is not announced; what is announced has to be read.
await steps.run('lists', async () => {
  const lists = [
    [11318, ListResourcesResultSchema],
    [11319, ListResourceTemplatesResultSchema],
    [11320, ListPromptsResultSchema],
  ].filter(([kind]) => newest.has(kind));
  lists.forEach(([kind, schema]) => read(kind, schema));
  return lists.map(([kind]) => kind);
});
await steps.run('relay-list', async () => {
  const event = newest.get(10002);
  check(event?.content === '' && values(event, 'r').length > 0, 'no relay list');
  return values(event, 'r');
});
await steps.run('profile', async () => {
  const profile = JSON.parse(newest.get(0)?.content ?? 'null');
  check(typeof profile?.name === 'string', 'no profile');
  return profile.name;
});
steps.finish();
