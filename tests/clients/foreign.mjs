// Composes the conformance suite's federations with a third-party composer,
// @theguild/federation-composition, so that the suite can run on its
// supergraph files. Usage: node foreign.mjs CASES OUT
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { composeServices } from '@theguild/federation-composition'
import { parse } from 'graphql'

const [cases, out] = process.argv.slice(2)
if (!out) {
  console.error('usage: node foreign.mjs CASES OUT')
  process.exit(2)
}
const source = readFileSync(join(cases, '../src/case.rs'), 'utf8')
// That composer supports Federation up to 2.9.
const LINK = /const LINK: &str = r#"(.*?)"#;/
  .exec(source)[1]
  .replace(/v2\.\d+/, 'v2.9')
  .replace(', "@cacheTag"', '')

/** A case's subgraphs, parsed as the suite parses them. */
function subgraphsOf(body) {
  return `\n${body}`.split('\n## ').slice(1).flatMap(section => {
    const [title, ...lines] = section.split('\n')
    const [kind, name] = title.trim().split(' ')
    if (kind !== 'subgraph') return []
    const content = lines.join('\n').trim()
    const linked = content.includes('@link') || content.startsWith('# federation 1')
    return [{ name, sdl: linked ? content : `${LINK}\n${content}` }]
  })
}

const NULLABLE = 'it treats all fields that a context selects as nullable'
// Cases where that composer deviates from Apollo's rules; they are skipped.
const OTHERWISE = {
  'contexts::a_value_from_another_subgraph': NULLABLE,
  'contexts::a_union_sets_it,_each_member_with_a_field_of_its_own': NULLABLE,
  'contexts::the_nearest_of_two': NULLABLE,
  'contexts::with_a_requirement,_a_nested_value_and_a_list': NULLABLE,
  'contexts::entered_from_elsewhere;_fields_without_a_context_do_not_wait_for_one': NULLABLE,
  'hints::nothing_to_say': 'it does not know @cacheTag',
  'abstract::unions_whose_members_differ': 'of two types it takes the first, not the wider',
  'hidden::wider_and_narrower_types': 'of two types it takes the first, not the wider',
  'interface_objects::with_requires': 'it drops @external from fields of an interface object',
}

rmSync(out, { recursive: true, force: true })
mkdirSync(out, { recursive: true })
let composed = 0
const failed = []
for (const file of readdirSync(cases)) {
  const family = basename(file, '.txt')
  if (family === 'refused' || family === 'foreign') continue
  for (const chunk of `\n${readFileSync(join(cases, file), 'utf8')}`.split('\n= ').slice(1)) {
    const [name, ...lines] = chunk.split('\n')
    const body = lines.join('\n')
    if (body.includes('\n## refused')) continue
    const subgraphs = subgraphsOf(body)
    if (!subgraphs.length) continue
    const label = `${family}::${name.trim().replaceAll(' ', '_')}`
    if (OTHERWISE[label]) {
      console.log(`  ${label}: not tested, ${OTHERWISE[label]}`)
      continue
    }
    let result
    try {
      result = composeServices(subgraphs.map(({ name, sdl }) => ({ name, typeDefs: parse(sdl), url: `http://${name}` })))
    } catch (error) {
      result = { errors: [error] }
    }
    if (result.supergraphSdl) {
      composed++
      writeFileSync(join(out, `${label}.graphql`), result.supergraphSdl)
    } else failed.push(`${label}: ${result.errors.map(error => error.message.split('\n')[0]).join('; ')}`)
  }
}
console.log(`foreign supergraphs: ${composed} composed, ${failed.length} not`)
for (const line of failed) console.log(`  ${line}`)
