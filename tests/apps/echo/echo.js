// Plain Node: answers `POST /echo/MS/ID` after so many milliseconds with the id, the body's SHA-256, itself, and how many it has had.
const { createHash, randomBytes } = require('crypto');
const http = require('http');

const me = randomBytes(8).toString('hex');
let had = 0;
http
  .createServer((request, response) => {
    const hash = createHash('sha256');
    request.on('data', (piece) => hash.update(piece));
    request.on('end', () => {
      const [, , ms, id] = request.url.split('/');
      had += 1;
      const answer = `${id} ${hash.digest('hex')} ${me} ${had}\n`;
      if (ms === '0') response.end(answer);
      else setTimeout(() => response.end(answer), Number(ms));
    });
  })
  .listen(Number(process.argv[2]));
