// Sends the shop's mail, version 1.
let sent = 0;

setInterval(() => {
  sent += 1;
  console.log(`v1 sent mail ${sent}`);
}, 2000);
