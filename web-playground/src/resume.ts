/** Subscriptions that survive a lost connection, for graphql-ws and graphql-sse.
 *
 * Both clients send the first request again when they reconnect, so an event
 * would be delivered twice or not at all. This helper keeps the cursor of the last event
 * and subscribes again after it. Copy it: it has no dependencies.
 *
 * The operation declares `$after: String`, passes it to the field as `after`, and
 * selects `cursor`:
 *
 *   subscription ($after: String) { myOrderUpdates(after: $after) { cursor status } }
 */

type Payload = { query: string; variables?: Record<string, unknown> }
type Result = {
  data?: Record<string, unknown> | null
  errors?: readonly { message: string; extensions?: Record<string, unknown> }[]
}
type Sink = { next(value: Result): void; error(error: unknown): void; complete(): void }

/** The common interface of the graphql-ws and graphql-sse clients. Create them with
 * `retryAttempts: 0`: reconnecting is done here. */
export type Client = { subscribe(payload: Payload, sink: never): () => void }

/** Errors that a retry cannot resolve. */
const FINAL = ['CURSOR_INVALID', 'CURSOR_EXPIRED', 'FORBIDDEN', 'UNAUTHENTICATED', 'NOT_FOUND', 'TOKEN_EXPIRED']

export type Options = {
  client: Client
  payload: Payload
  onEvent(result: Result): void
  /** Called once at the end; without an error if the server completed the stream. */
  onEnd(error?: unknown): void
  /** Milliseconds to wait before the nth attempt since the last event. */
  delay?: (attempt: number) => number
}

/** Subscribes; call the returned function to unsubscribe. */
export function subscribeResumable(options: Options): () => void {
  const delay = options.delay ?? (attempt => Math.min(250 * 2 ** attempt, 10_000))
  let after = options.payload.variables?.after
  let attempt = 0
  let stopped = false
  let stop = () => {}
  let timer: ReturnType<typeof setTimeout> | undefined

  const end = (error?: unknown) => {
    if (stopped) return
    stopped = true
    options.onEnd(error)
  }
  const again = () => {
    if (stopped) return
    timer = setTimeout(start, delay(attempt++))
  }

  function start() {
    // State of one connection: only its first error or completion counts.
    let over = false
    let resume = false
    const sink: Sink = {
      next(result) {
        if (over || stopped) return
        const code = result.errors?.[0]?.extensions?.code
        if (result.errors?.length && !result.data) {
          if (FINAL.includes(String(code))) {
            over = true
            stop()
            end(result.errors)
            return
          }
          // The server is stopping or a service is unavailable: retry, it may be back soon.
          if (/^(RESUME_REQUIRED|UNAVAILABLE|SUBGRAPH_)/.test(String(code))) {
            resume = true
            return
          }
        }
        attempt = 0
        const cursor = cursorOf(result)
        if (cursor) after = cursor
        options.onEvent(result)
      },
      error(error) {
        if (over) return
        over = true
        const code = Array.isArray(error) ? error[0]?.extensions?.code : undefined
        if (FINAL.includes(String(code))) end(error)
        else again()
      },
      complete() {
        if (over) return
        over = true
        if (resume) again()
        else end()
      },
    }
    const payload = { ...options.payload, variables: { ...options.payload.variables, after } }
    stop = options.client.subscribe(payload, sink as never)
  }

  start()
  return () => {
    stopped = true
    clearTimeout(timer)
    stop()
  }
}

function cursorOf(result: Result): string | undefined {
  for (const value of Object.values(result.data ?? {})) {
    if (value && typeof value === 'object' && 'cursor' in value && typeof value.cursor === 'string') {
      return value.cursor
    }
  }
  return undefined
}
