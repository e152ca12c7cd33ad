// The tools that every test server offers, whatever carries it.
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { RootsListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import { z } from 'zod';
import { pause } from './steps.mjs';

const text = (value) => ({ content: [{ type: 'text', text: String(value) }] });

export function makeServer(name) {
  const seen = { roots_changed: 0, cancelled: 0 };
  const server = new McpServer({ name, version: '1.0.0' }, { capabilities: { tools: {} } });

  server.registerTool(
    'echo',
    { description: 'Gives the message back.', inputSchema: { message: z.string() } },
    async ({ message }) => text(message),
  );
  server.registerTool(
    'add',
    { description: 'Adds two numbers.', inputSchema: { a: z.number(), b: z.number() } },
    async ({ a, b }) => text(a + b),
  );
  server.registerTool(
    'slow-with-progress',
    {
      description: 'Takes its time and says how far it is.',
      inputSchema: { steps: z.number().int().positive().default(3), delay_ms: z.number().int().default(50) },
    },
    async ({ steps, delay_ms }, extra) => {
      const progressToken = extra._meta?.progressToken;
      for (let progress = 1; progress <= steps; progress += 1) {
        await pause(delay_ms);
        if (extra.signal.aborted) {
          seen.cancelled += 1;
          return text('cancelled');
        }
        if (progressToken !== undefined) {
          await extra.sendNotification({
            method: 'notifications/progress',
            params: { progressToken, progress, total: steps },
          });
        }
      }
      return text(`${steps} steps`);
    },
  );
  server.registerTool('whoami', { description: 'Names the caller.', inputSchema: {} }, async (_, extra) =>
    text(extra._meta?.clientPubkey ?? 'unknown'),
  );
  server.registerTool('fail', { description: 'Fails on purpose.', inputSchema: {} }, async () => ({
    ...text('failed on purpose'),
    isError: true,
  }));
  server.registerTool(
    'notifications-seen',
    { description: 'Counts what came without a call.', inputSchema: {} },
    async () => text(JSON.stringify(seen)),
  );
  server.server.setNotificationHandler(RootsListChangedNotificationSchema, () => {
    seen.roots_changed += 1;
  });
  return server;
}
