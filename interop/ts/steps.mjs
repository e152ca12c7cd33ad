// Runs named steps one after another and prints one JSON line for each.

export function print(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

export function check(holds, detail) {
  if (!holds) throw new Error(typeof detail === 'string' ? detail : JSON.stringify(detail));
}

export function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

export async function until(holds, ms, what) {
  const end = Date.now() + ms;
  while (!holds()) {
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await pause(20);
  }
}

function within(promise, ms) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no outcome within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export class Steps {
  constructor({ only = [], skip = [], timeout = 15000 }) {
    Object.assign(this, { only, skip, timeout, ran: 0, failed: [] });
  }

  // A step that fails does not stop the ones after it, unless it is `needed`.
  async run(step, body, { needed = false } = {}) {
    if (this.skip.includes(step) || (!needed && this.only.length > 0 && !this.only.includes(step))) return;
    const start = Date.now();
    this.ran += 1;
    try {
      const detail = await within(body(), this.timeout);
      print({ step, ok: true, detail: detail ?? '', ms: Date.now() - start });
    } catch (error) {
      this.failed.push(step);
      print({ step, ok: false, detail: String(error?.message ?? error), ms: Date.now() - start });
      if (needed) this.finish();
    }
  }

  // Runs steps of which each asks more than the one before: none is tried after one that fails.
  async runUntilFailure(steps) {
    const failed = this.failed.length;
    for (const [step, body] of steps) {
      await this.run(step, async () => {
        check(this.failed.length === failed, 'not tried: the one before failed');
        await body();
      });
    }
  }

  // Says that it waits, and goes on at the next line of standard input: the other side starts anew meanwhile.
  async hold() {
    print({ step: 'hold', ok: true, detail: '' });
    await new Promise((resolve) => process.stdin.once('data', resolve));
    process.stdin.pause();
  }

  finish() {
    const ok = this.failed.length === 0;
    print({ step: 'done', ok, detail: { ran: this.ran, failed: this.failed } });
    process.exit(ok ? 0 : 1);
  }
}

// Ends the program with its parent, which holds the other end of standard input.
export function endWithInput(close) {
  const end = async () => {
    await within(Promise.resolve(close()), 2000).catch(() => {});
    process.exit(0);
  };
  process.stdin.resume();
  process.stdin.on('end', end);
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
}
