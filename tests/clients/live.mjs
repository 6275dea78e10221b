// Stock clients against a running shop: node live.mjs URL PRODUCT_ID
// graphql-ws over WebSocket, graphql-sse over server-sent events.
import assert from 'node:assert/strict'
import { createClient as createSse } from 'graphql-sse'
import { createClient as createWs } from 'graphql-ws'
import WebSocket from 'ws'

const [url, product] = process.argv.slice(2)
const endpoint = `${url}/graphql`

async function call(query, variables, token) {
  const response = await fetch(endpoint, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) },
    body: JSON.stringify({ query, variables }),
  })
  const answer = await response.json()
  assert.equal(answer.errors, undefined, JSON.stringify(answer))
  return answer.data
}

async function signIn(who) {
  const input = { email: `${who}@stoa.test`, password: 'stoa-demo-password' }
  const data = await call('mutation ($input: LoginInput!) { login(input: $input) { session { accessToken } } }', { input })
  return data.login.session.accessToken
}

const ada = await signIn('ada')
const admin = await signIn('admin')
const PLACE = `mutation ($product: ID!, $key: ID!) { placeOrder(idempotencyKey: $key, input: {
  lines: [{ productId: $product, quantity: 1 }], paymentMethod: "sandbox_approve",
  shippingAddress: { line1: "1", city: "A", postalCode: "1", country: "NL" } }) { order { id } userErrors { code } } }`
const WATCH = `subscription ($id: ID!) { orderStatusChanged(orderId: $id) { status order { number customer { firstName } } } }`

async function place() {
  const data = await call(PLACE, { product, key: crypto.randomUUID() }, ada)
  assert.deepEqual(data.placeOrder.userErrors, [])
  return data.placeOrder.order.id
}

async function move(verb, id) {
  const data = await call(
    `mutation ($id: ID!, $key: ID!) { ${verb}Order(orderId: $id, idempotencyKey: $key) { userErrors { code } } }`,
    { id, key: crypto.randomUUID() },
    admin,
  )
  assert.deepEqual(data[`${verb}Order`].userErrors, [])
}

/** Watches an order until it is delivered, through either client. */
async function watch(client) {
  const id = await place()
  const seen = []
  for await (const event of client.iterate({ query: WATCH, variables: { id } })) {
    assert.equal(event.errors, undefined, JSON.stringify(event))
    const update = event.data.orderStatusChanged
    assert.equal(update.order.customer.firstName, 'Ada')
    seen.push(update.status)
    if (update.status === 'CONFIRMED') await move('ship', id)
    if (update.status === 'SHIPPED') await move('deliver', id)
    if (update.status === 'DELIVERED') break
  }
  assert.deepEqual(seen, ['PENDING', 'CONFIRMED', 'SHIPPED', 'DELIVERED'])
}

const ws = (token, more = {}) =>
  createWs({
    url: endpoint.replace('http', 'ws'),
    webSocketImpl: WebSocket,
    connectionParams: token ? { authorization: `Bearer ${token}` } : {},
    retryAttempts: 0,
    ...more,
  })
const sse = (token, more = {}) =>
  createSse({
    url: endpoint,
    headers: token ? { authorization: `Bearer ${token}` } : {},
    retryAttempts: 0,
    ...more,
  })

// Subscriptions, several on one socket and over both transports at once.
const socket = ws(ada)
await Promise.all([watch(socket), watch(socket), watch(sse(ada))])

// Queries and mutations work over the same transports.
for (const client of [socket, sse(ada)]) {
  for await (const answer of client.iterate({ query: '{ me { email } }' })) {
    assert.equal(answer.data.me.email, 'ada@stoa.test')
  }
}

// An invalid document is an error of its operation only; the socket stays open.
await assert.rejects(async () => {
  for await (const _ of socket.iterate({ query: '{ nope }' }));
}, error => error[0].extensions.code === 'GRAPHQL_VALIDATION_FAILED')
for await (const answer of socket.iterate({ query: '{ __typename }' })) assert.equal(answer.data.__typename, 'Query')
for await (const answer of sse(ada).iterate({ query: '{ nope }' })) {
  assert.equal(answer.errors[0].extensions.code, 'GRAPHQL_VALIDATION_FAILED')
}
await socket.dispose()

// Without a token, and with a bad one.
const anonymous = ws()
await assert.rejects(async () => {
  for await (const event of anonymous.iterate({ query: 'subscription { myOrderUpdates { status } }' })) {
    if (event.errors) throw event.errors
  }
}, error => error[0].extensions.code === 'UNAUTHENTICATED')
await anonymous.dispose()
await assert.rejects(async () => {
  for await (const _ of ws('nonsense').iterate({ query: '{ me { id } }' }));
}, error => error.code === 4403)

// The rules of the protocol, tested with raw messages.
function raw(protocol = 'graphql-transport-ws') {
  const connection = new WebSocket(endpoint.replace('http', 'ws'), protocol)
  const closed = new Promise(resolve => connection.on('close', code => resolve(code)))
  const open = new Promise(resolve => connection.on('open', resolve))
  const messages = []
  connection.on('message', data => messages.push(JSON.parse(data)))
  connection.on('error', () => {})
  return { connection, closed, open, messages, send: message => connection.send(typeof message === 'string' ? message : JSON.stringify(message)) }
}
const closes = async (expected, ...sent) => {
  const peer = raw()
  await peer.open
  for (const message of sent) peer.send(message)
  assert.equal(await peer.closed, expected, JSON.stringify(sent))
}
const init = { type: 'connection_init' }
const subscribe = { type: 'subscribe', id: '1', payload: { query: 'subscription ($id: ID!) { orderStatusChanged(orderId: $id) { status } }', variables: { id: 'x' } } }
await closes(4401, subscribe)
await closes(4429, init, init)
await closes(4400, 'nonsense')
await closes(4400, { type: 'nope' })
{
  const id = await place()
  const watching = { ...subscribe, payload: { ...subscribe.payload, variables: { id } } }
  await closes(4409, { type: 'connection_init', payload: { Authorization: `Bearer ${ada}` } }, watching, watching)
}
{
  const peer = raw()
  await peer.open
  peer.send(init)
  peer.send({ type: 'ping' })
  while (peer.messages.length < 2) await new Promise(resolve => setTimeout(resolve, 10))
  assert.deepEqual(peer.messages.map(message => message.type), ['connection_ack', 'pong'])
  peer.connection.close()
}
console.log('ok')
process.exit(0)
