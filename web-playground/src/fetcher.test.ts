import { expect, test } from 'vitest'
import { authorization, operation } from './fetcher'

test('operation picks the named one, and drops a stale name', () => {
  const q = 'query A { a } subscription B { b }'
  expect(operation(q, 'A')).toEqual({ name: 'A', subscription: false })
  expect(operation(q, 'B')).toEqual({ name: 'B', subscription: true })
  expect(operation('subscription { b }', 'Gone')).toEqual({ name: undefined, subscription: true })
  expect(operation('subscription {')).toEqual({ name: undefined, subscription: false })
})
test('authorization ignores letter case', () => {
  expect(authorization({ AUTHORIZATION: 'Bearer x' })).toBe('Bearer x')
  expect(authorization({})).toBeUndefined()
})
