// What all the Node servers here share. Plain on purpose: what people write without thinking of reloads.
const fs = require('fs');
const http = require('http');

function version() {
  if (process.env.VERSION) return process.env.VERSION;
  try {
    return fs.readFileSync('VERSION', 'utf8').trim();
  } catch {
    return 'v1';
  }
}

const VERSION = version();

exports.VERSION = VERSION;
exports.port = () => {
  const port = process.argv[2] || process.env.PORT || '3000';
  return port.startsWith('/') ? port : Number(port);
};
exports.server = () =>
  http.createServer((request, response) => {
    const slow = /^\/sleep\/(\d+)/.exec(request.url);
    const answer = () => response.end(`${VERSION} ${process.pid}\n`);
    if (slow) setTimeout(answer, Number(slow[1]));
    else answer();
  });
exports.listen = (server, port) => (process.env.HOST ? server.listen(port, process.env.HOST) : server.listen(port));
