import { expect, test, vi } from 'vitest'
import { type Client, subscribeResumable } from './resume'

type Sink = { next(value: unknown): void; error(error: unknown): void; complete(): void }

/** A mock client: the test drives its connections. */
function played() {
  const connections: { after: unknown; sink: Sink; stopped: boolean }[] = []
  const client: Client = {
    subscribe(payload, sink) {
      const connection = { after: payload.variables?.after, sink: sink as Sink, stopped: false }
      connections.push(connection)
      return () => {
        connection.stopped = true
      }
    },
  }
  return { client, connections }
}

const event = (cursor: string) => ({ data: { myOrderUpdates: { cursor } } })

function start(client: Client) {
  const seen: unknown[] = []
  const ends: unknown[] = []
  const stop = subscribeResumable({
    client,
    payload: { query: 'subscription ($after: String) { myOrderUpdates(after: $after) { cursor } }' },
    onEvent: result => seen.push(result),
    onEnd: error => ends.push(error),
    delay: () => 0,
  })
  return { seen, ends, stop }
}

test('a lost connection resumes after the last event', async () => {
  const { client, connections } = played()
  const { seen, ends } = start(client)
  expect(connections[0].after).toBeUndefined()
  connections[0].sink.next(event('1'))
  connections[0].sink.next(event('2'))
  connections[0].sink.error(new Error('socket closed'))
  await vi.waitFor(() => expect(connections).toHaveLength(2))
  expect(connections[1].after).toBe('2')
  // Results that arrive late on the old connection are ignored.
  connections[0].sink.next(event('1'))
  connections[1].sink.next(event('3'))
  connections[1].sink.complete()
  expect(seen).toEqual([event('1'), event('2'), event('3')])
  expect(ends).toEqual([undefined])
})

test('a server that asks for it is resumed, and final errors are final', async () => {
  const { client, connections } = played()
  const { seen, ends } = start(client)
  connections[0].sink.next(event('1'))
  connections[0].sink.next({ data: null, errors: [{ message: 'slow', extensions: { code: 'RESUME_REQUIRED' } }] })
  connections[0].sink.complete()
  await vi.waitFor(() => expect(connections).toHaveLength(2))
  expect(connections[1].after).toBe('1')
  const gone = [{ message: 'gone', extensions: { code: 'CURSOR_EXPIRED' } }]
  connections[1].sink.next({ errors: gone })
  expect(ends).toEqual([gone])
  expect(seen).toHaveLength(1)
})

test('stopping stops, also between two attempts', async () => {
  const { client, connections } = played()
  const { ends, stop } = start(client)
  vi.useFakeTimers()
  connections[0].sink.error(new Error('socket closed'))
  stop()
  await vi.runAllTimersAsync()
  vi.useRealTimers()
  expect(connections).toHaveLength(1)
  expect(ends).toHaveLength(0)
})
