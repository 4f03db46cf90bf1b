console.log('still thinking');
setInterval(() => {}, 1000);
