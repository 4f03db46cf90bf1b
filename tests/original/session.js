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

const post = (url) => raw('POST', url);

// Each command once with what it is for and once with what is wrong, since each is a process; the rest as scripts ask.
async function up() {
  run('stat');
  run('add', 'api');
  run('restart', 'api:02');
  await post('/all/restart');
  run('stop', 'api:01');
  run('start', 'api');
  for (const url of ['/api:01/stop', '/api:03/stop', '/api/start', '/api/start', '/api:03/stop', '/api:02/stop']) await post(url);
  run('remove', 'api:03');
  for (const url of ['/api/remove', '/api/add', '/bg/restart']) await post(url);
  await crash('api:01');
  run('stat');
  run('reset', 'all');
  await crash('bg:01');
  for (const url of ['/bg:01/reset', '/api/reset']) await post(url);
  // What is wrong.
  run('start', 'api:09');
  run('stop', 'nope');
  run('add', 'nope');
  run('start', 'api:01');
  run('remove', 'api:01');
  await post('/api:02/stop');
  run('stop', 'api:02');
  run('stop');
  for (const verb of ['start', 'restart', 'stop', 'reset', 'remove'])
    for (const selector of ['api:09', 'api:1', 'nope:01', 'nope', 'all:01', ':', '%20']) await post(`/${selector}/${verb}`);
  for (const verb of ['restart', 'reset']) await post(`/api:02/${verb}`);
  // What does not start.
  fs.writeFileSync('/srv/broken', '');
  for (const url of ['/api:02/start', '/api:01/restart', '/bg/add']) await post(url);
  fs.unlinkSync('/srv/broken');
  for (const url of ['/all/reset', '/all/start']) await post(url);
  // What is no route, and what is one all the same.
  for (const url of ['/STAT/', '/', '/nothing', '/api/stop', '/stat/stat/stat', "/a'b&c", '/a%20b']) await raw('GET', url);
  for (const method of ['PUT', 'DELETE', 'PATCH']) await raw(method, '/api/stop');
  for (const url of ['/stat', '/stop', '//stop', '/api/nothing', '/api/stop/now', '/API/stop', '/a%2Fb/stop']) await post(url);
  for (const url of ['/api:01/stop', '/api:01/START/', '/api%3A01/reset', '/bg/stop', '/bg/remove', '/bg/add']) await post(url);
  // All at once.
  for (const url of ['/all/stop', '/all/stop', '/api/add', '/all/start', '/all/stop', '/all/remove']) await post(url);
  run('stat');
}

async function away() {
  run('stop', 'all');
}

({ up, away })[process.argv[3]]();
