console.log('nothing to do');
process.exit(0);
