// Listens once the file of the second argument is there.
const fs = require('fs');
const { server, listen, port } = require('./common.js');

console.log('waiting at the gate');
const look = setInterval(() => {
  if (!fs.existsSync(process.argv[3])) return;
  clearInterval(look);
  listen(server(), port());
}, 5);
