// fitllm-engine, asked as ask.py asks the Python tools.
//
//   node ask.mjs PACKAGE answers QUESTIONS
//   node ask.mjs PACKAGE sweep FOLDER STEP COUNT HUB_ID
//   node --import ask.mjs .../bin/fitllm.mjs ARG...     its own command line with the loopback hub

import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const realFetch = globalThis.fetch;
const hub = process.env.PEERS_HUB;
if (hub) {
  globalThis.fetch = (url, ...rest) => realFetch(String(url).replace('https://huggingface.co', hub), ...rest);
}

async function main([home, mode, asked, ...rest]) {
  const engine = await import(pathToFileURL(`${home}/engine.js`).href);
  const { fetchHfModel } = await import(pathToFileURL(`${home}/bin/hf-model.mjs`).href);
  const found = async (id) => {
    const remote = await fetchHfModel(id);
    return engine.parseHfConfig(id, remote.config, remote.totalSize, remote.parameterEvidence ?? undefined);
  };
  const size = (model, tokens) => engine.calcKVCache(model, tokens, 16).totalBytes;

  if (mode === 'answers') {
    for (const [, id, tokens] of JSON.parse(readFileSync(asked, 'utf8'))) {
      try {
        const model = await found(id);
        const state = engine.calcLinearState(model).totalBytes;
        say({ kv_bytes: size(model, tokens), state_bytes: state, via: 'calcKVCache, calcLinearState' });
      } catch (error) {
        say({ refused: String(error.message) });
      }
    }
    return;
  }
  const [step, count, id] = [Number(rest[0]), Number(rest[1]), rest[2]];
  const model = await found(id);
  const cpu = process.cpuUsage();
  const started = performance.now();
  let sum = 0;
  for (let i = 1; i <= count; i += 1) sum += size(model, i * step);
  const used = process.cpuUsage(cpu);
  say({ sum, wall: (performance.now() - started) / 1e3, cpu: (used.user + used.system) / 1e6 });
}

function say(found) {
  console.log(JSON.stringify(found));
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  main(process.argv.slice(2));
}
