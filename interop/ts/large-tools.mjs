// The tools for large and endless messages, beside those of tools.mjs.
import { spawn } from 'node:child_process';
import { z } from 'zod';
import { digest, line, makeText } from './payload.mjs';
import { pause } from './steps.mjs';

const text = (value) => ({ content: [{ type: 'text', text: String(value) }] });

// Stops this whole program for a while: it answers nothing, not even a ping.
export function freeze(seconds) {
  const script = `kill -STOP ${process.pid}; sleep ${seconds}; kill -CONT ${process.pid}`;
  spawn('sh', ['-c', script], { detached: true, stdio: 'ignore' }).unref();
}

// A call's stream is the one that its transport made, unless the program makes them.
export function addLargeTools(server, streamOf = (extra) => extra._meta?.stream) {
  const seen = { aborted: 0, closed: 0 };
  server.registerTool(
    'sha',
    { description: 'Says how long a text is and its SHA-256.', inputSchema: { text: z.string() } },
    async (args) => text(digest(args.text)),
  );
  server.registerTool(
    'blow',
    { description: 'Gives a text of that many bytes.', inputSchema: { bytes: z.number().int() } },
    async ({ bytes }) => text(makeText(bytes)),
  );
  server.registerTool(
    'stream',
    {
      description: 'Writes a stream and ends it: by close, by abort, or when the reader does.',
      inputSchema: {
        chunks: z.number().int(),
        end: z.enum(['close', 'abort', 'wait', 'freeze']).default('close'),
        delay_ms: z.number().int().default(0),
      },
    },
    async ({ chunks, end, delay_ms }, extra) => {
      const stream = streamOf(extra);
      if (stream === undefined) return { ...text('no stream'), isError: true };
      for (let index = 0; index < chunks && stream.isActive; index += 1) {
        await stream.write(line(index));
        if (delay_ms > 0) await pause(delay_ms);
      }
      if (end === 'freeze') freeze(6);
      // The reader ends it, at some time.
      for (let waited = 0; (end === 'wait' || end === 'freeze') && stream.isActive && waited < 200; waited += 1) await pause(50);
      if (!stream.isActive) {
        seen.aborted += 1;
        return text('ended by the reader');
      }
      if (end === 'abort') await stream.abort('on purpose');
      else await stream.close();
      seen.closed += 1;
      return text(`${chunks} chunks`);
    },
  );
  server.registerTool('streams-seen', { description: 'Counts how streams ended.', inputSchema: {} }, async (_, extra) => {
    // A call with a progress token is answered only when the stream that it could have is closed.
    await extra._meta?.stream?.close();
    return text(JSON.stringify(seen));
  });
}
