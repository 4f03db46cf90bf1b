// Listens on its port and on another one: the second argument.
const { server, listen, port } = require('./common.js');

listen(server(), port());
server().listen(Number(process.argv[3]), '127.0.0.1');
