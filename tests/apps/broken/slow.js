const { server, listen, port } = require('../common.js');

setTimeout(() => listen(server(), port()), Number(process.env.STARTS_AFTER || 1000));
