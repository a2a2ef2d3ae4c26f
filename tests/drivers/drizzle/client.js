// Does with Drizzle what tests/drivers/orm_checks.py asks for.

const { mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { isDeepStrictEqual } = require('node:util');
const { arrayContains, eq, inArray, sql } = require('drizzle-orm');
const { drizzle } = require('drizzle-orm/node-postgres');
const { Pool } = require('pg');
const { TWIN_EMAIL, refusal, saySame, serve } = require('../node_stages');
const { kit } = require('./kit');
const { customers, plainCustomers } = require('./schema');

let db;

function migrate(drizzleKit, migrations) {
  drizzleKit('generate', '--name=customers');
  drizzleKit('generate', '--custom', '--name=search');
  writeFileSync(join(migrations, '0001_search.sql'), readFileSync(join(__dirname, 'search.sql')));
  drizzleKit('migrate');
}

// Whether drizzle-kit finds nothing to change, in the models since the migrations and in the database, and pulls the columns of the models.
function agrees(connection, drizzleKit, migrations) {
  const pulled = join(migrations, '../pulled');
  kit(connection, pulled)('pull');
  const [model, database] = [[migrations, '0001'], [pulled, '0000']].map(([from, number]) => {
    const { columns, uniqueConstraints } = JSON.parse(readFileSync(join(from, `meta/${number}_snapshot.json`))).tables['public.customers'];
    return { columns: Object.values(columns).map(({ name, type, notNull, primaryKey }) => ({ name, type, notNull, primaryKey })), uniqueConstraints };
  });
  return drizzleKit('generate').includes('No schema changes') && drizzleKit('push').includes('No changes detected') && isDeepStrictEqual(model, database);
}

const labels = (rows) => rows.map((row) => row.label);

async function labelsOf(email) {
  return labels(await db.select().from(customers).where(eq(customers.email, email)).orderBy(customers.label));
}

async function lookUps({ email, phone, unicode }) {
  // recipe
  const byEmail = db.select().from(customers).where(eq(customers.email, sql.placeholder('email'))).prepare('customers_by_email');
  const found = await byEmail.execute({ email });
  const [second] = await byEmail.execute({ email: phone });
  const either = await db.select().from(customers).where(inArray(customers.email, [phone, unicode])).orderBy(customers.label);
  // end of recipe
  return { found: labels(found), listed: labels(either), tags: second.tags };
}

async function upsert(email) {
  // recipe
  const [customer] = await db.insert(customers).values({ label: 'another', email })
    .onConflictDoUpdate({ target: customers.email, set: { visits: sql`${customers.visits} + 1` } }).returning();
  // end of recipe
  return customer.visits;
}

// Drizzle's own message holds the parameters; what the database said is its cause.
function describe({ constructor, query, cause }) {
  const { message, severity, code, detail, schema, table, column, constraint, routine } = cause;
  return { name: constructor.name, query, message, severity, code, detail, schema, table, column, constraint, routine };
}

async function duplicate(email) {
  await db.insert(plainCustomers).values({ label: 'twin', email: TWIN_EMAIL });
  const twin = await refusal(db.insert(plainCustomers).values({ label: 'again', email: TWIN_EMAIL }), describe);
  return saySame(await refusal(db.insert(customers).values({ label: 'again', email }), describe), twin);
}

async function first(given) {
  const folder = mkdtempSync(join(tmpdir(), 'drizzle-'));
  try {
    return await firstIn(join(folder, 'migrations'), given);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function firstIn(migrations, { connection, texts }) {
  const drizzleKit = kit(connection, migrations);
  migrate(drizzleKit, migrations);
  const pool = new Pool(connection);
  // node-postgres tells of ended idle sessions here.
  pool.on('error', () => {});
  db = drizzle(pool);
  const { email, phone, name, unicode } = texts;
  await db.insert(customers).values({ label: 'first', email });
  await db.insert(customers).values([{ label: 'second', email: phone }, { label: 'third', email: name }, { label: 'fourth', email: unicode }]);
  const [{ email: inserted }] = await db.select().from(customers).where(eq(customers.label, 'first'));
  await db.update(customers).set({ tags: [texts['tax id'], name] }).where(eq(customers.label, 'second'));
  return {
    inserted, absent: await labelsOf('absent'), upserted: await upsert(email), ...(await lookUps(texts)),
    tagged: labels(await db.select().from(customers).where(arrayContains(customers.tags, [texts['tax id']]))),
    duplicate: await duplicate(email),
    agrees: agrees(connection, drizzleKit, migrations),
  };
}

serve({ first, again: lookUps, labelsOf, save: (label, email) => db.insert(customers).values({ label, email }) });
