// Does with Sequelize what tests/drivers/orm_checks.py asks for.

const { execFileSync } = require('node:child_process');
const { Op, Sequelize, literal } = require('sequelize');
const { TWIN_EMAIL, refusal, saySame, serve } = require('../node_stages');
const { Customer, PlainCustomer } = require('./models');

// As `npx sequelize-cli db:migrate`.
function migrate() {
  execFileSync(process.execPath, [require.resolve('sequelize-cli/lib/sequelize'), 'db:migrate', '--config', 'config.js', '--migrations-path', 'migrations'], {
    cwd: __dirname, stdio: ['ignore', 'ignore', 'inherit'] });
}

const labels = (customers) => customers.map((customer) => customer.label);

async function labelsOf(email) {
  return labels(await Customer.findAll({ where: { email }, order: ['label'] }));
}

async function lookUps({ email, phone, unicode }) {
  // recipe
  const second = await Customer.findOne({ where: { email: phone } });
  const either = await Customer.findAll({ where: { email: [phone, unicode] }, order: ['label'] });
  // Sequelize writes values into the SELECT itself, so that statement logs show them, unless they are named:
  const found = await Customer.findAll({ where: { email: { [Op.eq]: literal('$email') } }, bind: { email } });
  // end of recipe
  return { found: labels(found), listed: labels(either), tags: second.tags };
}

async function upsert(email) {
  // recipe
  const known = await Customer.findOne({ where: { email } });
  const [customer] = await Customer.upsert({ label: known.label, email, visits: known.visits + 1 });
  // end of recipe
  return customer.visits;
}

// What an application, and what Sequelize makes of an error for it, goes by.
function describe({ name, message, fields, errors, parent }) {
  const { severity, code, detail, schema, table, constraint, routine } = parent;
  return { name, message, fields, errors: errors.map(({ message, type, path, value, validatorKey }) => ({ message, type, path, value, validatorKey })),
    parent: { message: parent.message, severity, code, detail, schema, table, constraint, routine } };
}

async function duplicate(email) {
  await PlainCustomer.create({ label: 'twin', email: TWIN_EMAIL });
  const twin = await refusal(PlainCustomer.create({ label: 'again', email: TWIN_EMAIL }), describe);
  return saySame(await refusal(Customer.create({ label: 'again', email }), describe), twin);
}

async function first({ connection, texts }) {
  process.env.SHOP_CONNECTION = JSON.stringify(connection);
  migrate();
  const sequelize = new Sequelize(require('./config'));
  for (const model of [Customer, PlainCustomer]) model.define(sequelize);
  const { email, phone, name, unicode } = texts;
  await Customer.create({ label: 'first', email });
  await Customer.bulkCreate([{ label: 'second', email: phone }, { label: 'third', email: name }, { label: 'fourth', email: unicode }]);
  const inserted = (await Customer.findOne({ where: { label: 'first' } })).email;
  const second = await Customer.findOne({ where: { label: 'second' } });
  second.tags = [texts['tax id'], name];
  await second.save();
  return {
    inserted, absent: await labelsOf('absent'), upserted: await upsert(email), ...(await lookUps(texts)),
    tagged: labels(await Customer.findAll({ where: { tags: { [Op.contains]: [texts['tax id']] } } })),
    duplicate: await duplicate(email),
    agrees: "the tool can't compare",
  };
}

serve({ first, again: lookUps, labelsOf, save: (label, email) => Customer.create({ label, email }) });
