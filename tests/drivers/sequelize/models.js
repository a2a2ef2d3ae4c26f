// The model of docs/recipes-clients.md, and its twin in plaintext.

const { DataTypes, Model } = require('sequelize');

// recipe
class Customer extends Model {
  static define(sequelize) {
    return super.init({
      label: { type: DataTypes.TEXT, allowNull: false },
      email: { type: 'encrypted_text(email,searchable)', allowNull: false, unique: true },
      visits: { type: DataTypes.INTEGER, allowNull: false, defaultValue: 1 },
      tags: { type: 'encrypted_text[]' },
    }, { sequelize, tableName: 'customers' });
  }
}
// end of recipe

class PlainCustomer extends Model {
  static define(sequelize) {
    return super.init({
      label: { type: DataTypes.TEXT, allowNull: false },
      email: { type: DataTypes.TEXT, allowNull: false, unique: true },
      visits: { type: DataTypes.INTEGER, allowNull: false, defaultValue: 1 },
      tags: { type: DataTypes.ARRAY(DataTypes.TEXT) },
    }, { sequelize, tableName: 'plain_customers' });
  }
}

module.exports = { Customer, PlainCustomer };
