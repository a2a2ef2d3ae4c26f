// recipe
module.exports = {
  async up(queryInterface, { INTEGER, TEXT }) {
    await queryInterface.createTable('customers', {
      id: { type: INTEGER, primaryKey: true, autoIncrement: true },
      label: { type: TEXT, allowNull: false },
      email: { type: 'encrypted_text(email,searchable)', allowNull: false, unique: true },
      visits: { type: INTEGER, allowNull: false, defaultValue: 1 },
      tags: { type: 'encrypted_text[]' },
    });
  },

  async down(queryInterface) {
    await queryInterface.dropTable('customers');
  },
};
// end of recipe
