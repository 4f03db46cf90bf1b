const { server, listen, port } = require('../common.js');

process.on('SIGTERM', () => console.log('SIGTERM ignored'));
listen(server(), port());
