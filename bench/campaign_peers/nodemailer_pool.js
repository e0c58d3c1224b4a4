// nodemailer's pool in the benchmark "campaign": each message filled in and given to the pool, which keeps its
// connections open. It records nothing. `node nodemailer_pool.js COUNT PORT CONNECTIONS < LETTER`, the letter as JSON.
'use strict';

const nodemailer = require('nodemailer');

const [count, port, connections] = process.argv.slice(2).map(Number);
const letter = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const pool = nodemailer.createTransport({
  pool: true, host: '127.0.0.1', port, secure: false, ignoreTLS: true, maxConnections: connections,
  maxMessages: Infinity,
});

function message(number) {
  const digits = String(number).padStart(8, '0');
  const unsubscribe = 'https://news.hoge.example/unsubscribe/' + digits.padStart(56, 'x');
  const filled = (text) => text.replaceAll('{{ first_name }}', '太郎' + number)
    .replaceAll('{{ unsubscribe }}', unsubscribe);
  return {
    from: { name: 'ほげ', address: letter.sender }, to: `p${digits}@d${number % 50}.example`,
    subject: filled(letter.subject), text: filled(letter.text), html: filled(letter.html),
    headers: {
      'List-Id': '<news.hoge.example>', 'List-Unsubscribe': `<${unsubscribe}>`,
      'List-Unsubscribe-Post': 'List-Unsubscribe=One-Click', 'Feedback-ID': 'c-spring:l-news:bulk:td0123456789',
    },
  };
}

async function main() {
  const begun = process.hrtime.bigint();
  const before = process.cpuUsage();
  let next = 0;
  let sent = 0;
  // As many at a time as the pool has connections, and as many again that wait.
  await Promise.all(Array.from({ length: 2 * connections }, async () => {
    while (next < count) {
      await pool.sendMail(message(next++));
      sent += 1;
    }
  }));
  const used = process.cpuUsage(before);
  console.log(JSON.stringify({
    seconds: Number(process.hrtime.bigint() - begun) / 1e9, cpu: (used.user + used.system) / 1e6,
    memory: process.resourceUsage().maxRSS * 1024, recorded: 0, sent,
  }));
  pool.close();
}

main();
