// The shop's API, version 2. It knows nothing of clusters, sockets or signals.
const http = require('http');

const products = [
  { id: 1, name: 'teapot', price: 24 },
  { id: 2, name: 'cup', price: 5 },
];

http
  .createServer((request, response) => {
    if (request.url === '/products') {
      response.setHeader('Content-Type', 'application/json');
      response.end(JSON.stringify(products));
    } else if (request.url === '/report') {
      // The books take their time.
      setTimeout(() => response.end(`v2 ${process.pid}\n`), 3000);
    } else {
      response.end(`v2 ${process.pid}\n`);
    }
  })
  .listen(3000);
