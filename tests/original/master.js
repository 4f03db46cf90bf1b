// A master of the first version, with the apps of the test beside it: two of `api` and one of `bg`. A type has no program where
// it is none of these, and none that starts while there is a file /srv/broken.
const fs = require('fs');

const apps = { api: 2, bg: 1 };
require('project-cluster')
  .create({
    config: { name: 'theirs', log: false, api: { port: Number(process.argv[2]) }, timeout: { kill: 1000, restart: 100 }, apps },
    start(type, started) {
      if (!apps[type] || fs.existsSync('/srv/broken')) return started(new Error(`no ${type}`));
      setInterval(() => {}, 1000);
      started();
    },
    stop(stopped) {
      stopped();
      process.exit();
    },
  })
  .start();
