import type { Fetcher } from '@graphiql/toolkit'
import { getOperationAST, parse } from 'graphql'
import { createClient as createSse } from 'graphql-sse'
import { createClient as createWs } from 'graphql-ws'

export type Transport = 'ws' | 'sse'
type HeaderMap = Record<string, string>
type Sink = { next(v: unknown): void; error(e: unknown): void; complete(): void }

/** GraphiQL updates operationName some 100 ms after an edit, so it may name a removed operation. */
export function operation(query: string, operationName?: string | null) {
  try {
    const doc = parse(query)
    const op = getOperationAST(doc, operationName) ?? getOperationAST(doc)
    return { name: op?.name?.value, subscription: op?.operation === 'subscription' }
  } catch {
    return { name: operationName ?? undefined, subscription: false } // the server reports the syntax error
  }
}

/** The Authorization value of the headers editor, any letter case. */
export function authorization(headers: HeaderMap = {}): string | undefined {
  const name = Object.keys(headers).find(h => h.toLowerCase() === 'authorization')
  return name === undefined ? undefined : headers[name]
}

function toError(e: unknown): unknown {
  if (e && typeof e === 'object' && 'code' in e && 'reason' in e)
    return new Error(`Socket closed with event ${e.code} ${e.reason || ''}`.trim())
  return e // Error or GraphQLError[]
}

export function createFetcher(opts: {
  url: string
  transport?: () => Transport
  /** The access token; a header typed in the headers editor wins. It is added
   * here and not in the editor, because the history stores the editor's content. */
  token?: () => string | null
}): Fetcher {
  const url = new URL(opts.url, location.href).href
  return ((params, fetcherOpts) => {
    const headers: HeaderMap = { ...fetcherOpts?.headers }
    const token = opts.token?.()
    if (token && authorization(headers) === undefined) headers.Authorization = `Bearer ${token}`
    const op = operation(params.query, params.operationName)
    const payload = { ...params, operationName: op.name }
    if (op.subscription) {
      const auth = authorization(headers)
      return {
        // An observable, not an async generator: return() on a generator waits for the
        // pending next(), so the Stop button would hang until the next event.
        subscribe(sink: Sink) {
          const client =
            opts.transport?.() === 'sse'
              ? createSse({ url, headers, retryAttempts: 0 })
              : createWs({
                  url: url.replace(/^http/, 'ws'),
                  connectionParams: auth ? { Authorization: auth } : {},
                  retryAttempts: 0,
                })
          const stop = client.subscribe(payload as never, {
            next: v => sink.next(v),
            error: e => sink.error(toError(e)),
            complete: () => sink.complete(),
          })
          return { unsubscribe: () => { stop(); void client.dispose() } }
        },
      }
    }
    return fetch(url, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/graphql-response+json, application/json;q=0.9',
        ...headers,
      },
      body: JSON.stringify(payload),
    }).then(async r => {
      const text = await r.text()
      try {
        return JSON.parse(text)
      } catch {
        throw new Error(`HTTP ${r.status}: ${text.slice(0, 500)}`)
      }
    })
  }) as Fetcher
}
