// Text that every program makes alike: quotes, backslashes, control characters, multi-byte text, and no two lines the same.
import { createHash } from 'node:crypto';

export function line(index) {
  return `${index}: the "quick" \\brown\\ fox\tsaid zażółć gęślą jaźń \u{1F980} and \u0001\u007f twice\r\n`;
}

// Whole lines, at least that many bytes of UTF-8.
export function makeText(bytes) {
  const lines = [];
  for (let index = 0, length = 0; length < bytes; index += 1) {
    lines.push(line(index));
    length += Buffer.byteLength(lines[index]);
  }
  return lines.join('');
}

export function digest(text) {
  return `${Buffer.byteLength(text)} ${createHash('sha256').update(text).digest('hex')}`;
}
