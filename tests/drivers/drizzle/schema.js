// The model of docs/recipes-clients.md, and its twin in plaintext.

// recipe
const { customType, integer, pgTable, text } = require('drizzle-orm/pg-core');

const encryptedText = customType({ dataType: () => 'encrypted_text' });

const customers = pgTable('customers', {
  id: integer().primaryKey().generatedAlwaysAsIdentity(),
  label: text().notNull(),
  email: encryptedText().notNull().unique(),
  visits: integer().notNull().default(1),
  tags: encryptedText().array(),
});
// end of recipe

const plainCustomers = pgTable('plain_customers', {
  id: integer().primaryKey().generatedAlwaysAsIdentity(),
  label: text().notNull(),
  email: text().notNull().unique(),
  visits: integer().notNull().default(1),
  tags: text().array(),
});

module.exports = { customers, plainCustomers };
