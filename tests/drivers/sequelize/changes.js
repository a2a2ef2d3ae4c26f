// What Sequelize's changes of filled tables come to: for each the SQLSTATE, or null. Reads {"connection"} on stdin, after client.js.

const { readFileSync } = require('node:fs');
const { DataTypes, Sequelize } = require('sequelize');
const { Customer } = require('./models');

process.env.SHOP_CONNECTION = JSON.stringify(JSON.parse(readFileSync(0)).connection);
const sequelize = new Sequelize(require('./config'));

async function sqlstate(doing) {
  try {
    await doing;
  } catch (error) {
    if (!error.parent) throw error;
    return error.parent.code;
  }
  return null;
}

// Of a model like the one that fits, but for one column.
function alterAs(name, column) {
  const model = sequelize.define(name, { ...Customer.define(sequelize).getAttributes(), ...column }, { tableName: 'customers' });
  return sqlstate(model.sync({ alter: true }));
}

async function main() {
  const changes = sequelize.getQueryInterface();
  const gave = {
    fits: await sqlstate(Customer.define(sequelize).sync({ alter: true })),
    string: await alterAs('string', { email: { type: DataTypes.STRING, allowNull: false } }),
    text: await alterAs('text', { email: { type: DataTypes.TEXT, allowNull: false } }),
    array: await alterAs('array', { tags: { type: DataTypes.ARRAY(DataTypes.TEXT) } }),
    encrypt: await sqlstate(changes.changeColumn('plain_customers', 'email', { type: 'encrypted_text(email,searchable)', allowNull: false })),
  };
  await sequelize.close();
  process.stdout.write(JSON.stringify(gave));
}

main();
