// Sends the shop's mail, version 2.
let sent = 0;

setInterval(() => {
  sent += 1;
  console.log(`v2 sent mail ${sent}`);
}, 2000);
