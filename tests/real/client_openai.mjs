// Drives an OpenAI embeddings endpoint with openai-node, many promises at once, and checks every vector, index and usage figure.
//
//   node client_openai.mjs NODE_MODULES BASE_URL MODEL REQUESTS FORMAT      FORMAT: float | base64 | default (what the client asks for itself)
//
// The same inputs and the same output as client_openai.py, for Infinity's rule (the vector is the input's length, 13 times).
import { createRequire } from 'node:module';

const [modules, baseURL, model, requests, format] = process.argv.slice(2);
const OpenAI = createRequire(`${modules}/`)('openai').default;
const FAULTS_TOLD = 5;
const LIMIT_MS = 20_000;

function inputsOf(count) {
  const sizes = Array.from({ length: count }, (_, i) => (i % 5) + 1);
  const total = sizes.reduce((a, b) => a + b, 0);
  const lengths = Array.from({ length: total }, (_, i) => i + 1).sort((a, b) => ((a * 7919) % total) - ((b * 7919) % total));
  const text = (n) => (`${n}:` + 'the-quick-brown-fox-jumps-over-the-lazy-dog-'.repeat(Math.floor(n / 44) + 1)).slice(0, n);
  return sizes.map((size) => lengths.splice(0, size).map(text));
}

function fault(texts, answer) {
  const indices = answer.data.map((d) => d.index);
  if (indices.length !== texts.length || indices.some((v, i) => v !== i)) return `indices ${indices} for ${texts.length} inputs`;
  for (const [i, text] of texts.entries()) {
    const vector = Array.from(answer.data[i].embedding);
    if (vector.length !== 13 || vector.some((v) => v !== text.length)) return `input of ${text.length} characters got ${vector.slice(0, 4)}...`;
  }
  const tokens = texts.reduce((a, t) => a + t.length, 0);
  if (answer.usage.prompt_tokens !== tokens || answer.usage.total_tokens !== tokens) return `usage ${JSON.stringify(answer.usage)} for ${tokens} characters`;
  return null;
}

const tally = { answers: 0, items: 0, wrong: 0, errors: 0 };
const client = new OpenAI({ baseURL, apiKey: 'sk-real-test', maxRetries: 0, timeout: LIMIT_MS });

async function ask(texts, i) {
  let why;
  try {
    const body = { model, input: texts.length === 1 ? texts[0] : texts };
    if (format !== 'default') body.encoding_format = format;
    // The client decodes base64 itself only where it chose base64 itself; an explicit base64 comes back as the string.
    const answer = await client.embeddings.create(body);
    for (const d of answer.data) {
      if (typeof d.embedding === 'string') {
        const raw = Buffer.from(d.embedding, 'base64');
        d.embedding = Array.from({ length: raw.length / 4 }, (_, k) => raw.readFloatLE(4 * k));
      }
    }
    why = fault(texts, answer);
    tally[why ? 'wrong' : 'answers'] += 1;
    tally.items += texts.length;
  } catch (error) {
    tally.errors += 1;
    why = String(error).slice(0, 300);
  }
  if (why && tally.wrong + tally.errors <= FAULTS_TOLD) console.error(`request ${i}: ${why}`);
}

const begun = Date.now();
await Promise.all(inputsOf(Number(requests)).map(ask));
console.log(JSON.stringify({ ...tally, seconds: (Date.now() - begun) / 1000 }));
