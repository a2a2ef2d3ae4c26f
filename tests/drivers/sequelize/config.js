// The connection for sequelize-cli and for the programs: {host, port, user, database} as JSON.
const { host, port, user, database } = JSON.parse(process.env.SHOP_CONNECTION);

module.exports = { dialect: 'postgres', host, port, username: user, database, define: { timestamps: false }, logging: false };
