// Uses socket activation as sd_listen_fds(3) describes it.
const { server } = require('./common.js');

if (Number(process.env.LISTEN_PID) !== process.pid || Number(process.env.LISTEN_FDS) < 1) {
  throw new Error(`no sockets for ${process.pid}: LISTEN_PID=${process.env.LISTEN_PID} LISTEN_FDS=${process.env.LISTEN_FDS}`);
}
server().listen({ fd: 3 });
