// As schema.js, but that it takes encrypted columns for those of the type in SHOP_CARELESS.

const { integer, pgTable, text, varchar } = require('drizzle-orm/pg-core');
const { plainCustomers } = require('./schema');

const { email, tags } = {
  text: { email: text(), tags: text().array() },
  varchar: { email: varchar({ length: 255 }), tags: varchar({ length: 255 }).array() },
}[process.env.SHOP_CARELESS];

const customers = pgTable('customers', {
  id: integer().primaryKey().generatedAlwaysAsIdentity(),
  label: text().notNull(),
  email: email.notNull().unique(),
  visits: integer().notNull().default(1),
  tags,
});

module.exports = { customers, plainCustomers };
