// Hashes tools as the SDK does (CEP-15): one tool per line on stdin, its hash or why it has none per line on stdout.
import { computeCommonSchemaHash } from '@contextvm/sdk/core';

const refusals = [
  [(error) => error instanceof SyntaxError, 'text'],
  [(error) => error.message.startsWith('External $ref'), 'external ref'],
  [(error) => error.message === 'Infinity is not allowed', 'number'],
];

function hash(line) {
  try {
    const { name, inputSchema, outputSchema } = JSON.parse(line);
    return computeCommonSchemaHash({ name, inputSchema, outputSchema });
  } catch (error) {
    const known = refusals.find(([is]) => is(error));
    return `refused: ${known ? known[1] : error.message}`;
  }
}

// Not `readline`: it ends lines at U+2028 too, which may stand in a JSON string.
let rest = '';
process.stdin.setEncoding('utf8');
for await (const chunk of process.stdin) {
  const lines = (rest + chunk).split('\n');
  rest = lines.pop();
  if (lines.length > 0) process.stdout.write(lines.map((line) => `${hash(line)}\n`).join(''));
}
