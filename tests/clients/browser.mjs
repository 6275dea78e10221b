// The page in a real browser: node browser.mjs STOA CHROMIUM [SCREENSHOT]
// Starts a shop, runs a query that crosses all four services and a
// subscription that shows an order go CONFIRMED, SHIPPED, DELIVERED live.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'

const [stoa, executablePath, screenshot = join(tmpdir(), 'stoa-playground.png')] = process.argv.slice(2)
const shop = spawn(stoa, ['up', '--ephemeral', '--listen', '127.0.0.1:0'], {
  stdio: ['ignore', 'pipe', 'ignore'],
  env: { ...process.env, STOA_RATE_LIMIT: 'off' },
})
const profile = mkdtempSync(join(tmpdir(), 'stoa-chromium-'))
let browser
try {
  const url = await new Promise((resolve, reject) => {
    let text = ''
    shop.on('exit', code => reject(new Error(`stoa ended with ${code}: ${text}`)))
    shop.stdout.on('data', data => {
      text += data
      const found = /(http:\/\/127\.0\.0\.1:\d+)\//.exec(text)
      if (found && text.includes('Ctrl-C')) resolve(found[1])
    })
  })
  browser = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    viewport: { width: 1400, height: 900 },
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  })
  const page = await browser.newPage()
  const problems = []
  page.on('pageerror', error => problems.push(String(error)))
  page.on('console', message => {
    if (message.type() === 'error' && /Content Security Policy|Refused/.test(message.text())) problems.push(message.text())
  })
  page.on('request', request => {
    const { origin, protocol } = new URL(request.url())
    if (!['data:', 'blob:'].includes(protocol) && origin !== url) problems.push(`left the machine: ${request.url()}`)
  })
  await page.goto(url)
  await page.getByRole('region', { name: 'Operation Editor' }).locator('.monaco-editor .view-lines').waitFor()
  const model = name =>
    page.evaluate(n => globalThis.__MONACO.editor.getModels().find(m => m.uri.path.endsWith(n)).getValue(), name)
  const write = (name, text) =>
    page.evaluate(([n, t]) => globalThis.__MONACO.editor.getModels().find(m => m.uri.path.endsWith(n)).setValue(t), [name, text])
  const answers = (pattern, timeout = 20_000) =>
    page.waitForFunction(
      p => new RegExp(p).test(globalThis.__MONACO.editor.getModels().find(m => m.uri.path.endsWith('response.json')).getValue()),
      pattern,
      { timeout },
    )
  const execute = () => page.locator('.graphiql-execute-button').click()

  // Sign in as a demo customer with one click.
  await page.getByRole('button', { name: /Sign in/ }).first().click()
  await page.getByRole('button', { name: 'Demo: ada@stoa.test' }).click()
  await page.getByText('Signed in as').waitFor()

  // The example of the first tab crosses all four services.
  await execute()
  await answers('"firstName": "Ada"')
  const answer = JSON.parse(await model('response.json'))
  assert.equal(answer.errors, undefined)
  assert.ok(answer.data.me.orders.nodes[0].lines[0].product.category.name)
  assert.ok(answer.data.me.notifications.nodes[0].order.status)

  // Buy, then watch it from the page while an administrator moves it.
  const call = async (query, variables, token) => {
    const response = await fetch(`${url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) },
      body: JSON.stringify({ query, variables }),
    })
    return (await response.json()).data
  }
  const signedIn = await call('mutation { login(input: { email: "admin@stoa.test", password: "stoa-demo-password" }) { session { accessToken } } }')
  const admin = signedIn.login.session.accessToken
  const { products } = await call('{ products(query: "mug", first: 1) { nodes { id } } }')
  await write('operation.graphql', `mutation { placeOrder(idempotencyKey: "browser", input: { paymentMethod: "sandbox_approve", lines: [{ productId: "${products.nodes[0].id}", quantity: 1 }], shippingAddress: { line1: "1", city: "A", postalCode: "1", country: "NL" } }) { order { id number } userErrors { code } } }`)
  await execute()
  await answers('"placeOrder"')
  const placed = JSON.parse(await model('response.json'))
  const order = placed.data.placeOrder.order.id

  for (const transport of ['ws', 'sse']) {
    await page.locator('.sign-in select').selectOption(transport)
    await write('operation.graphql', `subscription { orderStatusChanged(orderId: "${order}") { status occurredAt order { number customer { firstName } } } }`)
    await execute()
    if (transport === 'ws') {
      await answers('"CONFIRMED"')
      for (const [verb, status] of [['ship', 'SHIPPED'], ['deliver', 'DELIVERED']]) {
        await call(`mutation ($id: ID!) { ${verb}Order(orderId: $id, idempotencyKey: "browser-${verb}") { userErrors { code } } }`, { id: order }, admin)
        await answers(`"${status}"`)
      }
      await page.screenshot({ path: screenshot })
    } else {
      // All events are replayed, so the response shown last is the final status.
      await answers('"DELIVERED"')
    }
    await execute() // stops it
  }

  // A reload signs in again with the refresh cookie, and nothing else of the session
  // was stored.
  await page.reload()
  await page.getByRole('button', { name: /Sign in/ }).first().waitFor()
  if (!(await page.locator('.sign-in').isVisible())) await page.getByRole('button', { name: /Sign in/ }).first().click()
  await page.getByText('Signed in as').waitFor()
  const kept = await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }))
  assert.ok(!kept.includes('Bearer') && !kept.includes('eyJ'), 'no token is kept on disk')

  // On a phone nothing is wider than the screen.
  await page.setViewportSize({ width: 390, height: 844 })
  await page.getByRole('region', { name: 'Operation Editor' }).locator('.monaco-editor .view-lines').waitFor()
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
  assert.ok(wide <= 0, `the page is ${wide} px too wide on a phone`)
  await page.screenshot({ path: screenshot.replace('.png', '-phone.png') })

  assert.deepEqual(problems, [])
  console.log(`browser: ok (screenshots: ${screenshot})`)
} finally {
  await browser?.close()
  shop.kill()
  rmSync(profile, { recursive: true, force: true })
}
