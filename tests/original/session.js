// A session with the first version's own command line and with its routes, against whatever answers at this port of this
// machine: prints what was asked and answered, with a placeholder for what differs from run to run: `id`, `pid`, memory, uptime.
//   node session.js PORT up|away
const { spawnSync } = require('child_process');
const fs = require('fs');
const http = require('http');
const os = require('os');
const path = require('path');

const port = Number(process.argv[2]);
const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'session-'));
fs.writeFileSync(path.join(directory, '.cluster.json'), JSON.stringify({ host: '127.0.0.1', port }));
const client = path.join(__dirname, 'node_modules/.bin/cluster');

const same = (text) => (found) => text.padStart(found.length);

// A table: the pid is behind the uid; colours stand around each field.
function table(text) {
  return text
    .replace(/^( *\S+:\d+\x1b\[90m)( *\d+)/gm, (_, uid, pid) => uid + same('PID')(pid))
    .replace(/ *\d+(\.\d+)?[bKMG](?=\x1b)/g, same('MEMORY'))
    .replace(/ *\d+:\d\d:\d\d:\d\d/g, same('UPTIME'))
    .replaceAll(`:${port}`, ':PORT');
}

function run(...words) {
  const options = { cwd: directory, env: { ...process.env, FORCE_COLOR: '1' }, encoding: 'utf8', timeout: 60000 };
  const { status, stdout, stderr, error } = spawnSync(process.execPath, [client, ...words], options);
  if (error) throw error;
  console.log(`$ cluster ${words.join(' ')}\n${table(stdout)}${stderr}exit ${status}`);
}

// One of the answers' own keys must not be missed by a placeholder: those that are no text or number of the known form stay.
function masked(key, value) {
  const forms = { id: /^\d+$/, pid: /^\d+$/, memory: /^\d+(\.\d{1,2})?[bKMG]$/, uptime: /^\d+:\d\d:\d\d:\d\d$/ };
  return forms[key]?.test(value) ? typeof value : value;
}

const byUid = (one, other) => (one.uid > other.uid ? 1 : -1);

function ask(method, url) {
  return new Promise((resolve, reject) => {
    const request = http.request({ host: '127.0.0.1', port, method, path: url, agent: false, timeout: 60000 }, (answer) => {
      let text = '';
      answer.on('data', (part) => (text += part));
      answer.on('end', () => resolve({ status: answer.statusCode, form: answer.headers['content-type'], text }));
    });
    request.on('timeout', () => request.destroy(new Error(`no answer to ${method} ${url}`)));
    request.on('error', reject).end();
  });
}

async function raw(method, url) {
  const { status, form, text } = await ask(method, url);
  console.log(`> ${method} ${url}\n${status} ${form}`);
  if (!form?.startsWith('application/json')) return console.log(text);
  const value = JSON.parse(text);
  if (JSON.stringify(value) !== text) console.log('NOT AS JSON.stringify WRITES IT:', text);
  console.log(JSON.stringify(Array.isArray(value) ? value.sort(byUid) : value, masked));
}

async function until(what, holds) {
  const deadline = Date.now() + 20000;
  for (;;) {
    const stats = JSON.parse((await ask('GET', '/stat')).text);
    if (holds(stats)) return stats;
    if (Date.now() > deadline) throw new Error(`not within 20 s: ${what}: ${JSON.stringify(stats)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

// As a crash does.
async function crash(uid) {
  const stat = (stats) => stats.find((one) => one.uid === uid);
  const { pid } = stat(await until(`${uid} is online`, (stats) => stat(stats)?.pid));
  process.kill(pid, 'SIGKILL');
  await until(`${uid} is back`, (stats) => stat(stats)?.pid && stat(stats).pid !== pid);
}

async function up() {
  run('stat');
  run('add', 'api');
  run('restart', 'api:02');
  run('restart', 'all');
  run('stop', 'api:01');
  run('stat');
  run('start', 'api:01');
  await raw('POST', '/api:01/stop');
  await raw('POST', '/api:03/stop');
  run('start', 'api');
  await raw('POST', '/api/start');
  await raw('POST', '/api:03/stop');
  run('remove', 'api:03');
  await raw('POST', '/api:02/stop');
  run('remove', 'api');
  run('add', 'api');
  await crash('api:01');
  run('stat');
  run('reset', 'api:01');
  await crash('bg:01');
  run('reset', 'all');
  // What is wrong.
  run('start', 'api:09');
  run('stop', 'nope');
  run('stop');
  run('add', 'nope');
  run('nonsense');
  run('start', 'api:01');
  run('remove', 'api:01');
  run('stop', 'api:02');
  run('stop', 'api:02');
  for (const verb of ['start', 'restart', 'stop', 'reset', 'remove'])
    for (const selector of ['api:09', 'api:1', 'nope:01', 'nope', 'all:01', ':', '%20']) await raw('POST', `/${selector}/${verb}`);
  for (const verb of ['restart', 'reset']) await raw('POST', `/api:02/${verb}`);
  // What does not start.
  fs.writeFileSync('/srv/broken', '');
  run('start', 'api:02');
  run('restart', 'api:01');
  run('add', 'bg');
  fs.unlinkSync('/srv/broken');
  run('reset', 'all');
  run('start', 'all');
  // As scripts ask.
  for (const url of ['/stat', '/STAT/', '/', '/nothing', '/api/stop', '/stat/stat/stat', "/a'b&c", '/a%20b']) await raw('GET', url);
  for (const url of ['/stat', '/stop', '//stop', '/api/nothing', '/api/stop/now', '/API/stop', '/a%2Fb/stop'])
    await raw('POST', url);
  for (const url of ['/api:01/stop', '/api:01/stop', '/api:01/START/', '/api%3A01/reset', '/api/restart', '/bg/stop', '/bg/remove', '/bg/add'])
    await raw('POST', url);
  for (const method of ['PUT', 'DELETE', 'PATCH']) await raw(method, '/api/stop');
  run('stop', 'all');
  await raw('POST', '/all/stop');
  run('add', 'api');
  run('start', 'all');
  await raw('POST', '/all/stop');
  run('remove', 'all');
}

function away() {
  run('stat');
  run('stop', 'all');
}

({ up, away })[process.argv[3]]();
