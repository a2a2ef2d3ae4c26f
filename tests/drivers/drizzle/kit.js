// Runs drizzle-kit, as `npx drizzle-kit …`.

const { spawnSync } = require('node:child_process');
const { join, relative } = require('node:path');

// A function (…arguments) that gives what the tool prints; for a connection, a folder of migrations, and a file of models.
function kit(connection, migrations, schema = 'schema.js') {
  // It takes every folder for a relative one.
  const env = { ...process.env, SHOP_CONNECTION: JSON.stringify(connection), SHOP_MIGRATIONS: relative(__dirname, migrations), SHOP_SCHEMA: schema };
  return (...args) => {
    const ran = spawnSync(join(process.env.NODE_PATH, '.bin/drizzle-kit'), [...args, '--config=drizzle.config.js'], {
      cwd: __dirname, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    // Many errors end it with 0.
    if (ran.status !== 0 || /error/i.test(ran.stderr)) throw new Error(`drizzle-kit ${args[0]}: ${ran.stdout}${ran.stderr}`);
    return ran.stdout;
  };
}

module.exports = { kit };
