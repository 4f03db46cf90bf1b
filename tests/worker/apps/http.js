// A plain server: http.js PORT | fd:N | PATH
const where = process.argv[2].startsWith('fd:') ? { fd: Number(process.argv[2].slice(3)) } : isNaN(process.argv[2]) ? process.argv[2] : Number(process.argv[2])
require('http').createServer((request, response) => response.end(`node ${process.pid}`)).listen(where)
