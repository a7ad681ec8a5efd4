// Plays scenes against a server with what Node brings, and prints what came back.
// In: {"base": URL, "scenes": {NAME: [STEP, ...]}}; out: {NAME: [ANSWER, ...]}. A path may hold {run}, the id of the
// scene's last run.
import { request } from 'node:http';
import { text } from 'node:stream/consumers';

const PATIENCE_MS = 10_000;
const HEADERS = ['allow', 'cache-control', 'content-type'];

async function fetched({ method, path, headers, body }, base, scene) {
  const answer = await fetch(base + path, { method, headers, body, signal: AbortSignal.timeout(PATIENCE_MS) });
  const shown = Object.fromEntries(HEADERS.map((name) => [name, answer.headers.get(name)]));
  const run = answer.headers.get('x-flue-run-id');
  scene.run = run ?? scene.run;
  return { status: answer.status, headers: { ...shown, 'x-flue-run-id': run !== null }, text: await answer.text() };
}

function spoken({ path, say }, base) {
  const frames = [];
  const socket = new WebSocket(base.replace('http', 'ws') + path);
  socket.binaryType = 'arraybuffer';
  let heard = () => {};
  const closed = new Promise((resolve) => {
    socket.onclose = ({ code, reason }) => resolve({ code, reason });
    setTimeout(() => resolve({ code: 'still open' }), PATIENCE_MS).unref();
  });
  socket.onmessage = ({ data }) => { frames.push(JSON.parse(data)); heard(); };
  socket.onerror = () => {};
  const until = (wanted, count = 1) => new Promise((resolve) => {
    const fits = (frame) => Object.entries(wanted).every(([key, value]) => frame[key] === value);
    heard = () => frames.filter(fits).length >= count && resolve();
    heard();
    closed.then(resolve);
  });
  const play = async () => {
    for (const act of say) {
      if (act.until) await until(act.until, act.count);
      else if (act.close) socket.close(act.close);
      else if (act.bytes) socket.send(new Uint8Array(act.bytes));
      else socket.send(typeof act.send === 'string' ? act.send : JSON.stringify(act.send));
    }
  };
  return Promise.all([closed, play()]).then(([end]) => ({ frames, end }));
}

function refused({ upgrade }, base) {
  const headers = {
    connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13',
    'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
  };
  return new Promise((resolve, reject) => {
    const asked = request(base + upgrade, { headers });
    asked.on('response', async (answer) => resolve({ status: answer.statusCode, text: await text(answer) }));
    asked.on('upgrade', (answer, socket) => { socket.destroy(); resolve({ status: answer.statusCode }); });
    asked.on('error', reject);
    asked.end();
  });
}

const { base, scenes } = JSON.parse(await text(process.stdin));
const answers = {};
for (const [name, steps] of Object.entries(scenes)) {
  const scene = {};
  answers[name] = [];
  for (const written of steps) {
    const step = JSON.parse(JSON.stringify(written).replaceAll('{run}', encodeURIComponent(scene.run)));
    const play = step.upgrade ? refused : step.say ? spoken : fetched;
    answers[name].push(await play(step, base, scene));
  }
}
console.log(JSON.stringify(answers));
