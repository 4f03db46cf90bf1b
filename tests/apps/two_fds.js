// Two inherited sockets, told apart by their answer: `3 PID` and `4 PID`.
const http = require('http');

if (process.env.LISTEN_FDS !== '2') throw new Error(`LISTEN_FDS=${process.env.LISTEN_FDS}`);
for (const fd of [3, 4]) {
  http.createServer((request, response) => response.end(`${fd} ${process.pid}\n`)).listen({ fd });
}
