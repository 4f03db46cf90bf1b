// Node's own cluster module: the master binds, its two children accept.
const cluster = require('cluster');
const { server, listen, port } = require('./common.js');

if (cluster.isPrimary) for (let child = 0; child < 2; child++) cluster.fork();
else listen(server(), port());
