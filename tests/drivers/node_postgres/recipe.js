// What docs/recipes-clients.md says of node-postgres.

const { Client } = require('pg');
const { pipeline } = require('node:stream/promises');
const { Readable } = require('node:stream');
const { from } = require('pg-copy-streams');

const { connection, name, email, other } = JSON.parse(require('node:fs').readFileSync(0));

async function main() {
  const client = new Client(connection);
  await client.connect();
  // recipe
  await client.query('INSERT INTO patients (name, email) VALUES ($1::text, $2::text)', [name, email]);
  const lines = [`${name}\t${other}\n`];                                       // pg-copy-streams
  await pipeline(Readable.from(lines), client.query(from('COPY patients (name, email) FROM STDIN')));

  const found = await client.query(
    'SELECT id, decrypt_field(name) AS name, email::text FROM patients WHERE email = $1::text', [email]);
  const both = await client.query('SELECT id FROM patients WHERE email = ANY ($1::text[]) ORDER BY id', [[email, other]]);
  const upserted = await client.query(
    `INSERT INTO patients (name, email) VALUES ($1::text, $2::text)
     ON CONFLICT (email) DO UPDATE SET name = excluded.name RETURNING id`, [name, email]);
  // end of recipe
  await client.end();
  const row = Object.values(found.rows[0]);
  process.stdout.write(JSON.stringify({ row, rows: both.rows.map(Object.values), upserted: upserted.rows[0].id }));
}

main();
