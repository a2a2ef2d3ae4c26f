module.exports = {
  async up(queryInterface, { ARRAY, INTEGER, TEXT }) {
    await queryInterface.createTable('plain_customers', {
      id: { type: INTEGER, primaryKey: true, autoIncrement: true },
      label: { type: TEXT, allowNull: false },
      email: { type: TEXT, allowNull: false, unique: true },
      visits: { type: INTEGER, allowNull: false, defaultValue: 1 },
      tags: { type: ARRAY(TEXT) },
    });
  },

  async down(queryInterface) {
    await queryInterface.dropTable('plain_customers');
  },
};
