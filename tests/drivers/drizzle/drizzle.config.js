// For drizzle-kit, which kit.js runs.
const { host, port, user, database } = JSON.parse(process.env.SHOP_CONNECTION);

module.exports = {
  dialect: 'postgresql', schema: process.env.SHOP_SCHEMA, out: process.env.SHOP_MIGRATIONS, dbCredentials: { host, port, user, database, ssl: false } };
