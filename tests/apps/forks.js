// A master that listens nowhere and forks children that do, each by itself.
const { fork } = require('child_process');
const { server, listen, port } = require('./common.js');

if (process.env.CHILD) listen(server(), port());
else for (let child = 0; child < 2; child++) fork(__filename, process.argv.slice(2), { env: { ...process.env, CHILD: child } });
