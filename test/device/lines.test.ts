import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { type BadLine, maxLineBytes, readTelemetry } from '../../device/src/lines.ts';

async function read(chunks: (string | Buffer)[]) {
  const bad: BadLine[] = [];
  const lines: [number, string][] = [];
  for await (const { number, body } of readTelemetry(Readable.from(chunks), (line) => bad.push(line))) {
    lines.push([number, body.toString('utf8')]);
  }
  return { lines, bad };
}

test('lines are found wherever the chunks are cut, inside a character too', async () => {
  const bytes = Buffer.from('{"a":"ä"}\n[1]\n"x"\n');
  for (let at = 1; at < bytes.length; at += 1) {
    expect(await read([bytes.subarray(0, at), bytes.subarray(at)])).toEqual({
      lines: [
        [1, '{"a":"ä"}'],
        [2, '[1]'],
        [3, '"x"'],
      ],
      bad: [],
    });
  }
});

test('the last line counts without a newline; empty lines do not count; Windows line ends are taken', async () => {
  expect((await read(['{"a":1}\r\n\n  \n{"b":2}'])).lines).toEqual([
    [1, '{"a":1}'],
    [4, '{"b":2}'],
  ]);
});

test('a bad line is named by number and reason, never quoted, and the next one is read', async () => {
  const { lines, bad } = await read(['{"secret": \n', Buffer.from([0xff, 0xfe, 0x0a]), '{"good":1}\n', 'trailing']);
  expect(lines).toEqual([[3, '{"good":1}']]);
  expect(bad).toEqual([
    { number: 1, reason: 'is not JSON' },
    { number: 2, reason: 'is not UTF-8' },
    { number: 4, reason: 'is not JSON' },
  ]);
});

test('a line at the limit of edgeHub passes, one byte more is refused without being held in memory', async () => {
  const fill = (size: number) => `"${'x'.repeat(size - 2)}"\n`;
  const { lines, bad } = await read([fill(maxLineBytes), fill(maxLineBytes + 1), '1\n']);
  expect(lines.map(([number, text]) => [number, text.length])).toEqual([
    [1, maxLineBytes],
    [3, 1],
  ]);
  expect(bad).toEqual([{ number: 2, reason: `is longer than ${maxLineBytes} bytes` }]);
});

test('an endless line does not grow the memory', async () => {
  const chunk = Buffer.alloc(1024 * 1024, 0x78);
  async function* endless() {
    for (let count = 0; count < 200; count += 1) yield chunk;
  }
  const before = process.memoryUsage().arrayBuffers;
  const bad: BadLine[] = [];
  for await (const _line of readTelemetry(endless(), (line) => bad.push(line))) throw new Error('it was no line');
  expect(bad).toHaveLength(1);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(50 * 1024 * 1024);
});
