// A background worker: does its work, listens nowhere.
const { VERSION } = require('./common.js');

console.log(`${VERSION} ${process.pid} works`);
setInterval(() => {}, 1000);
