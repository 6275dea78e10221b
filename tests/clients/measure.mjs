// The figures of docs/measurements.md: node measure.mjs STOA [CLUSTER]
// Measures the embedded backends in one process, and the real backends as CLUSTER starts
// them. The load generator runs on the same machine as the shop and shares its cores.
// The figures are printed as a table at the end.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createClient } from 'graphql-ws'
import WebSocket from 'ws'

const [stoa, cluster] = process.argv.slice(2)
const folder = mkdtempSync(join(tmpdir(), 'stoa-measure-'))
const here = dirname(fileURLToPath(import.meta.url))
const agent = new http.Agent({ keepAlive: true, maxSockets: 64 })
/** The figures, by measurement and set of backends. */
const table = new Map()
let set = 'embedded, one process'
const row = (what, figure) => {
  if (!table.has(what)) table.set(what, new Map())
  table.get(what).set(set, figure)
  console.log(`${set}: ${what}: ${figure}`)
}

/** Starts a shop; resolves once a first query has succeeded. */
async function start() {
  const began = performance.now()
  const shop = spawn(stoa, ['up', '--listen', '127.0.0.1:0', '--data-dir', folder], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { ...process.env, STOA_RATE_LIMIT: 'off', STOA_LOG: 'warn' },
  })
  const url = await new Promise(resolve => {
    let text = ''
    shop.stdout.on('data', data => {
      text += data
      const found = /(http:\/\/127\.0\.0\.1:\d+)\//.exec(text)
      if (found && text.includes('Ctrl-C')) resolve(found[1])
    })
  })
  // The address is printed as soon as it listens, before all services are ready.
  const query = JSON.stringify({ query: '{ products(first: 1) { nodes { id } } }' })
  while (JSON.parse(await post(url, query)).errors) await new Promise(resolve => setTimeout(resolve, 1))
  return { shop, url, elapsed: performance.now() - began }
}

/** Uses node:http, because fetch would cost more than the shop itself. */
function post(url, body, token) {
  return new Promise((resolve, reject) => {
    const request = http.request(
      `${url}/graphql`,
      {
        method: 'POST',
        agent,
        headers: {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(body),
          ...(token && { authorization: `Bearer ${token}` }),
        },
      },
      response => {
        const chunks = []
        response.on('data', chunk => chunks.push(chunk))
        response.on('end', () => resolve(Buffer.concat(chunks)))
      },
    )
    request.on('error', reject)
    request.end(body)
  })
}

async function call(url, query, variables, token) {
  const answer = JSON.parse(await post(url, JSON.stringify({ query, variables }), token))
  assert.equal(answer.errors, undefined, JSON.stringify(answer))
  return answer.data
}

const stop = shop =>
  new Promise(resolve => {
    shop.on('exit', resolve)
    shop.kill()
  })

const ms = value => `${value.toFixed(value < 10 ? 2 : 1)} ms`
function percentiles(times) {
  times.sort((a, b) => a - b)
  const at = share => times[Math.min(times.length - 1, Math.floor(times.length * share))]
  return `p50 ${ms(at(0.5))}, p99 ${ms(at(0.99))} (n = ${times.length})`
}

async function timed(count, work) {
  for (let n = 0; n < Math.min(50, count); n++) await work(n)
  const times = []
  for (let n = 0; n < count; n++) {
    const began = performance.now()
    await work(n)
    times.push(performance.now() - began)
  }
  return times
}

/** Two replicas of each role behind nginx, over PostgreSQL, Redis and NATS. */
async function startCluster() {
  const shop = spawn(cluster, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, STOA_BINARY: stoa, STOA_RATE_LIMIT: 'off' },
  })
  return new Promise(resolve => {
    let text = ''
    shop.stdout.on('data', data => {
      text += data
      if (!text.includes('Ctrl-C')) return
      const url = /Playground\s+(\S+)\//.exec(text)[1]
      resolve({ shop, url, folder: dirname(/Logs\s+(\S+)/.exec(text)[1]) })
    })
  })
}

const resident = pid => {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+)/.exec(status)[1]) / 1024
}

async function embedded() {
  const first = await start()
  await stop(first.shop)
  const starts = []
  for (let n = 0; n < 5; n++) {
    const again = await start()
    starts.push(again.elapsed)
    await stop(again.shop)
  }
  starts.sort((a, b) => a - b)
  row('start to first response, existing database', `${ms(starts[2])} (median of 5)`)
  const { shop, url } = await start()
  await new Promise(resolve => setTimeout(resolve, 5_000))
  row('resident memory, idle', `${resident(shop.pid).toFixed(1)} MiB`)
  await measure(url)
  await stop(shop)
}

async function real() {
  set = 'real, two replicas of each role'
  const { shop, url, folder } = await startCluster()
  await new Promise(resolve => setTimeout(resolve, 5_000))
  const roles = readdirSync(folder).filter(name => /-\d\.pid$/.test(name))
  const all = roles.map(name => resident(readFileSync(join(folder, name), 'utf8').trim()))
  const sum = all.reduce((a, b) => a + b)
  row('resident memory, idle', `${sum.toFixed(1)} MiB in ${all.length} processes of ours`)
  await measure(url)
  await stop(shop)
}

async function measure(url) {
  const signIn = async who =>
    (
      await call(url, 'mutation ($input: LoginInput!) { login(input: $input) { session { accessToken } } }', {
        input: { email: `${who}@stoa.test`, password: 'stoa-demo-password' },
      })
    ).login.session.accessToken
  const [ada, admin] = [await signIn('ada'), await signIn('admin')]
  const made = await call(
    url,
    'mutation ($input: CreateProductInput!) { createProduct(input: $input) { product { id } } }',
    { input: { name: 'Measured', sku: `M-${Date.now()}`, price: { amountMinor: 100, currencyCode: 'EUR' }, stock: 100000 } },
    admin,
  )
  const product = made.createProduct.product.id

  const page = JSON.stringify({
    query: readFileSync(join(here, '../operations/product-page.graphql'), 'utf8'),
    variables: { sku: 'COF-001' },
  })
  const bytes = (await post(url, page)).length
  row('product page query, one client', `${percentiles(await timed(1_000, () => post(url, page)))}, ${bytes} bytes of answer`)
  const shopQuery = JSON.stringify({ query: readFileSync(join(here, '../operations/my-shop.graphql'), 'utf8') })
  row('query over all four services, one client', percentiles(await timed(500, () => post(url, shopQuery, ada))))

  const PLACE = `mutation ($key: ID!) { placeOrder(idempotencyKey: $key, input: { paymentMethod: "sandbox_approve",
    lines: [{ productId: "${product}", quantity: 1 }], shippingAddress: { line1: "1", city: "A", postalCode: "1", country: "NL" } }) { order { id } userErrors { code } } }`
  const place = () => call(url, PLACE, { key: crypto.randomUUID() }, ada)
  row('placeOrder, one client', percentiles(await timed(300, place)))

  // From the event's `occurredAt` to its arrival: both use this machine's clock.
  const client = createClient({
    url: `${url.replace('http', 'ws')}/graphql`,
    webSocketImpl: WebSocket,
    connectionParams: { authorization: `Bearer ${ada}` },
  })
  const waiting = new Map()
  const unsubscribe = client.subscribe(
    { query: 'subscription { myOrderUpdates { status occurredAt orderId order { number } } }' },
    {
      next: ({ data }) => {
        const update = data.myOrderUpdates
        const late = performance.timeOrigin + performance.now() - Date.parse(update.occurredAt)
        waiting.get(`${update.orderId} ${update.status}`)?.(late)
      },
      error: error => console.error(error),
      complete: () => {},
    },
  )
  await new Promise(resolve => setTimeout(resolve, 500))
  const late = []
  // Ten concurrently, because each waits about 0.6 s for its payment.
  for (let n = 0; n < 20; n++) {
    const batch = Array.from({ length: 10 }, async () => {
      const { placeOrder } = await place()
      return new Promise(resolve => waiting.set(`${placeOrder.order.id} CONFIRMED`, resolve))
    })
    late.push(...(await Promise.all(batch)))
  }
  unsubscribe()
  await client.dispose()
  row('event to subscriber (change decided to event received, with its order)', percentiles(late))

  const clients = 50
  const seconds = 10
  const until = performance.now() + seconds * 1_000
  const times = []
  await Promise.all(
    Array.from({ length: clients }, async () => {
      while (performance.now() < until) {
        const began = performance.now()
        await post(url, page)
        times.push(performance.now() - began)
      }
    }),
  )
  row(`product page query, ${clients} connections for ${seconds} s`, `${Math.round(times.length / seconds)} requests a second, ${percentiles(times)}`)
}

try {
  await embedded()
  if (cluster) await real()
  const sets = [...new Set([...table.values()].flatMap(figures => [...figures.keys()]))]
  console.log(`\n| what | ${sets.join(' | ')} |\n|---|${sets.map(() => '---|').join('')}`)
  for (const [what, figures] of table) console.log(`| ${what} | ${sets.map(name => figures.get(name) ?? '').join(' | ')} |`)
} finally {
  agent.destroy()
  rmSync(folder, { recursive: true, force: true })
}
process.exit(0)
