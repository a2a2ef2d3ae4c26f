// Runs the steps on stdin with node-postgres and prints what each gave; tests/drivers/driver_checks.py says what a step is.

const { readFileSync } = require('node:fs');
const { pipeline } = require('node:stream/promises');
const { Readable } = require('node:stream');
const { Client, DatabaseError } = require('pg');
const { from, to } = require('pg-copy-streams');

const names = {};

async function query(client, step) {
  const gave = [];
  const name = (names[step.sql] ??= `statement_${Object.keys(names).length}`);
  for (const values of step.runs) {
    // With a name it is prepared, and found the next time.
    const config = { text: step.sql, values, rowMode: 'array', ...(step.runs.length > 1 && { name }) };
    gave.push((await client.query(config)).rows);
  }
  return gave;
}

async function copyIn(client, step) {
  const lines = step.rows.map((row) => row.map((v) => v ?? '\\N').join('\t') + '\n');
  await pipeline(Readable.from(lines), client.query(from(`COPY ${step.copy_in} (${step.columns}) FROM STDIN`)));
}

async function copyOut(client, step) {
  const text = (await bytes(client, `COPY (${step.copy_out}) TO STDOUT`)).toString();
  return text.split('\n').slice(0, -1).map((line) => line.split('\t'));
}

async function copyBack(client, step) {
  const data = await bytes(client, `COPY (${step.copy_back}) TO STDOUT (FORMAT ${step.format})`);
  await pipeline(Readable.from([data]), client.query(from(`COPY ${step.to} FROM STDIN (FORMAT ${step.format})`)));
}

async function bytes(client, sql) {
  const parts = [];
  for await (const part of client.query(to(sql))) parts.push(part);
  return Buffer.concat(parts);
}

async function run(client, step) {
  const [, work] = Object.entries({ sql: query, copy_in: copyIn, copy_out: copyOut, copy_back: copyBack }).find(([key]) => key in step);
  try {
    return (await work(client, step)) ?? null;
  } catch (error) {
    if (!(error instanceof DatabaseError)) throw error;
    return { error: error.code, text: `${error.message} ${error.detail} ${error.hint}` };
  }
}

async function main() {
  const given = JSON.parse(readFileSync(0));
  const client = new Client(given.connection);
  await client.connect();
  const gave = [];
  for (const step of given.steps) gave.push(await run(client, step));
  await client.end();
  process.stdout.write(JSON.stringify(gave));
}

main();
