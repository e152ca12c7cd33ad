// A child in Node that appends every line it reads to the file named by SEEN, as its parser understands it, and misbehaves when told to.
import { appendFileSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';

const write = (bytes) => {
  let rest = Buffer.from(bytes);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(1, rest));
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
    }
  }
};
const text = (text) => ({ content: [{ type: 'text', text }] });
const pause = (ms) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);

function report(line) {
  let seen;
  try {
    const { method, params } = JSON.parse(line);
    seen = { line, method, name: params?.name, arguments: params?.arguments };
  } catch (error) {
    seen = { line, error: String(error) };
  }
  appendFileSync(process.env.SEEN, `${JSON.stringify(seen)}\n`);
}

function call({ name, arguments: given }, answer) {
  switch (name) {
    case 'environment':
      return answer(text(JSON.stringify(Object.keys(process.env))));
    case 'argv':
      return answer(text(JSON.stringify(process.argv.slice(2))));
    case 'garbage':
      write(Buffer.concat([Buffer.from('\u{feff}Server listening\n'), Buffer.from([0xff, 0xfe, 10]), Buffer.from('[]\n{"half":\n\nnull\n{}\n')]));
      return answer(text('ok'));
    case 'long_line':
      write(Buffer.alloc(given.bytes, 'x'));
      write('\n');
      return answer(text('ok'));
    case 'slowly':
      return answer(text('ok'), (line) => [...Buffer.from(line)].forEach((byte, at) => {
        if (at % 8 === 0) pause(2);
        write([byte]);
      }));
    case 'twice':
      answer(text('first'));
      return answer(text('second'));
    case 'die_mid_line':
      return answer(text('ok'), (line) => {
        write(line.slice(0, 40));
        process.exit(9);
      });
    default:
      return answer(text('seen'));
  }
}

createInterface({ input: process.stdin }).on('line', (line) => {
  report(line);
  const { id, method, params } = JSON.parse(line);
  if (id === undefined || method === undefined) return;
  const answer = (result, by = write) => by(`${JSON.stringify({ jsonrpc: '2.0', id, result })}\n`);
  const { protocolVersion } = params ?? {};
  if (method === 'initialize') answer({ protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'reporter', version: '1' } });
  else if (method === 'tools/call') call(params, answer);
  else answer({});
});
