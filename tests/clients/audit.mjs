// Audits GraphQL over HTTP with graphql-http's server audit: every item, MUST,
// SHOULD and MAY. Usage: node audit.mjs STOA
import { spawn } from 'node:child_process'
import { serverAudits } from 'graphql-http'

const [stoa] = process.argv.slice(2)
if (!stoa) {
  console.error('usage: node audit.mjs STOA')
  process.exit(2)
}

const shop = spawn(stoa, ['up', '--ephemeral', '--listen', '127.0.0.1:0'], {
  stdio: ['ignore', 'pipe', 'inherit'],
  env: { ...process.env, STOA_RATE_LIMIT: 'off', STOA_LOG: 'warn' },
})
const url = await new Promise((resolve, reject) => {
  let text = ''
  shop.stdout.on('data', data => {
    text += data
    const found = /(http:\/\/127\.0\.0\.1:\d+)\//.exec(text)
    if (found && text.includes('Ctrl-C')) resolve(found[1])
  })
  shop.on('exit', code => reject(new Error(`the shop ended with ${code}`)))
})
for (let tries = 0; (await fetch(`${url}/health`)).status !== 200; tries++) {
  if (tries > 600) throw new Error('the shop was not ready within a minute')
  await new Promise(resolve => setTimeout(resolve, 100))
}

const counts = {}
let failed = 0
for (const audit of serverAudits({ url: `${url}/graphql` })) {
  const level = audit.name.split(' ')[0]
  counts[level] ??= [0, 0]
  counts[level][1]++
  const result = await audit.fn()
  if (result.status === 'ok') counts[level][0]++
  else {
    failed++
    const response = result.response
    const body = response && !response.bodyUsed ? await response.text() : ''
    console.error(`${result.status}: ${audit.id} ${audit.name}: ${result.reason} (${response?.status}) ${body}`)
  }
}
const shown = Object.entries(counts).map(([level, [passed, all]]) => `${level} ${passed} of ${all}`)
console.log(`GraphQL over HTTP audit: ${shown.join(', ')}`)
shop.removeAllListeners('exit')
shop.kill()
process.exitCode = failed ? 1 : 0
