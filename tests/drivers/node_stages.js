// What the programs of Node's tools share: a JSON line in and one out for each stage of tests/drivers/orm_checks.py.

const { createInterface } = require('node:readline');

// Not one of the canaries, because the twin's error may show it.
const TWIN_EMAIL = 'twin@example.org';

// first(given) gives the first answer; again(texts) the part of it that later stages ask for; save(label, email) and labelsOf(email) are the tool's.
async function serve({ first, again, save, labelsOf }) {
  let texts;
  for await (const line of createInterface({ input: process.stdin })) {
    const given = JSON.parse(line);
    let answer;
    if (given.texts) {
      texts = given.texts;
      answer = await first(given);
    } else {
      await oneAttemptMayFail(given.stage === 'reconnected', () => save(given.stage, given.email));
      answer = { added: await labelsOf(given.email), ...(await again(texts)) };
    }
    process.stdout.write(JSON.stringify(answer) + '\n');
  }
}

async function oneAttemptMayFail(may, attempt) {
  try {
    await attempt();
  } catch (error) {
    if (!may) throw error;
    await attempt();
  }
}

// What describe(error) says of the error that doing this must give.
async function refusal(doing, describe) {
  const error = await doing.then(() => null, (refused) => refused);
  if (!error) throw new Error('it was not refused');
  return describe(error);
}

// Whether two descriptions of unique violations say the same, but for the table and a value that may be withheld.
function saySame(encrypted, twin) {
  const alike = JSON.stringify(twin).replaceAll('plain_customers', 'customers').replaceAll(TWIN_EMAIL, 'withheld');
  if (JSON.stringify(encrypted) !== alike) process.stderr.write(`${JSON.stringify(encrypted)}\n${alike}\n`);
  return JSON.stringify(encrypted) === alike && alike.includes('23505');
}

module.exports = { TWIN_EMAIL, refusal, saySame, serve };
