// A version that somebody deployed without its price list.
const http = require('http');

const products = require('./prices.json');

http.createServer((request, response) => response.end(`v3 ${process.pid} ${products.length}\n`)).listen(3000);
