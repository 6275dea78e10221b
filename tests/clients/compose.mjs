// Checks docker-compose.yml and the Dockerfile by parsing them, which needs no Docker
// engine: node compose.mjs STOA
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DockerfileParser } from 'dockerfile-ast'
import { parse } from 'yaml'

const [stoa] = process.argv.slice(2)
const root = join(dirname(fileURLToPath(import.meta.url)), '../..')
const read = path => readFileSync(join(root, path), 'utf8')
const compose = parse(read('docker-compose.yml'), { merge: true })
const help = execFileSync(stoa, ['--help'], { encoding: 'utf8' })

const roles = ['migrate', 'users', 'products', 'orders', 'notifications', 'router']
assert.deepEqual(Object.keys(compose.services).sort(), [...roles, 'nats', 'postgres', 'redis'].sort())
const known = new Set([
  'build', 'cap_drop', 'command', 'depends_on', 'environment', 'healthcheck', 'image', 'ports',
  'read_only', 'restart', 'security_opt', 'stop_grace_period', 'tmpfs', 'volumes',
])
for (const [name, service] of Object.entries(compose.services)) {
  for (const key of Object.keys(service)) assert.ok(known.has(key), `${name}.${key} is a key that we know`)
  for (const [other, { condition }] of Object.entries(service.depends_on ?? {})) {
    const needed = compose.services[other]
    assert.ok(needed, `${name} depends on ${other}`)
    if (condition === 'service_healthy') assert.ok(needed.healthcheck, `${other} can be healthy`)
    else assert.equal(condition, 'service_completed_successfully')
  }
  for (const volume of service.volumes ?? []) {
    const [from] = volume.split(':')
    assert.ok(from.startsWith('.') ? existsSync(join(root, from)) : from in compose.volumes, `${name}: ${volume}`)
  }
  const [, ...check] = service.healthcheck?.test ?? []
  if (check[0] === 'stoa') execFileSync(stoa, [...check.slice(1), '--help'])
}
// Dependencies have no cycles.
const visit = (name, path) => {
  assert.ok(!path.includes(name), `${[...path, name].join(' -> ')}`)
  for (const other of Object.keys(compose.services[name].depends_on ?? {})) visit(other, [...path, name])
}
roles.forEach(role => visit(role, []))

for (const role of roles) {
  const { command, environment } = compose.services[role]
  // The binary accepts each command as written.
  execFileSync(stoa, [...command, '--help'])
  for (const name of Object.keys(environment)) {
    const family = name.replace(/_(USERS|PRODUCTS|ORDERS|NOTIFICATIONS)_/, '_X_')
    const taught = help.includes(name) || ['STOA_X_DATABASE_URL', 'STOA_X_URL'].includes(family) ||
      /STOA_(PRODUCTS_PUBLIC_URL|INTERNAL_SECRET_FILE|CURSOR_SECRET_FILE)/.test(name)
    assert.ok(taught, `${role}: stoa --help teaches ${name}`)
  }
}
// Every database that a service uses is created at first start.
const made = [...read('deploy/databases.sql').matchAll(/CREATE DATABASE (\w+)/g)].map(found => found[1])
for (const name of ['USERS', 'PRODUCTS', 'ORDERS', 'NOTIFICATIONS']) {
  const url = compose.services.router.environment[`STOA_${name}_DATABASE_URL`]
  assert.ok(made.includes(url.split('/').at(-1)), url)
}

const dockerfile = DockerfileParser.parse(read('Dockerfile'))
const stages = new Set()
for (const instruction of dockerfile.getInstructions()) {
  const keyword = instruction.getKeyword()
  assert.ok(
    ['FROM', 'COPY', 'RUN', 'WORKDIR', 'ENV', 'VOLUME', 'USER', 'EXPOSE', 'ENTRYPOINT', 'CMD'].includes(keyword),
    `${keyword} is an instruction`,
  )
  if (keyword === 'FROM') stages.add(instruction.getBuildStage() ?? 'last')
  if (keyword === 'COPY') {
    const from = instruction.getFlags().find(flag => flag.getName() === 'from')?.getValue()
    if (from) assert.ok(stages.has(from), `COPY --from=${from} names a stage before it`)
    else {
      const [source] = instruction.getArguments().map(argument => argument.getValue())
      assert.ok(existsSync(join(root, source)), `COPY ${source}`)
    }
  }
}
assert.deepEqual([...stages], ['node', 'build', 'last'])
const last = dockerfile.getInstructions().filter(i => i.getRange().start.line > 0).map(i => i.getKeyword())
assert.ok(last.lastIndexOf('USER') > last.lastIndexOf('FROM'), 'it does not run as root')
const toolchain = /rust-version = "([\d.]+)"/.exec(read('Cargo.toml'))[1]
assert.ok(read('Dockerfile').includes(`FROM rust:${toolchain}-`), `the image is built with Rust ${toolchain}`)
console.log(`compose: ${Object.keys(compose.services).length} services, ${stages.size} stages: fine`)
