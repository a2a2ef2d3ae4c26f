// What `drizzle-kit push` of filled tables comes to: for each model the SQLSTATE, or null. Reads {"connection"} on stdin, after client.js.

const { readFileSync } = require('node:fs');
const { kit } = require('./kit');

const { connection } = JSON.parse(readFileSync(0));

function push(schema, careless, ...options) {
  process.env.SHOP_CARELESS = careless;
  try {
    kit(connection, __dirname, schema)('push', ...options);
    return null;
  } catch (error) {
    const [, code] = error.message.match(/^ +code: '(\w{5})',$/m) ?? [];
    if (!code) throw error;
    return code;
  }
}

process.stdout.write(JSON.stringify({
  fits: push('schema.js'),
  text: push('careless.js', 'text'), forcedText: push('careless.js', 'text', '--force'),
  varchar: push('careless.js', 'varchar'), forcedVarchar: push('careless.js', 'varchar', '--force'),
}));
