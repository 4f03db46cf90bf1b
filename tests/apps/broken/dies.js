const { server, listen, port } = require('../common.js');

listen(server(), port());
setTimeout(() => {
  console.error('FATAL: out of ideas');
  process.exit(3);
}, Number(process.env.DIES_AFTER || 1000));
