const { server, listen, port } = require('../common.js');

listen(server(), port() + 1);
