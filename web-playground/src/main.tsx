import './workers' // first: sets MonacoEnvironment before monaco loads
// Not 'graphiql/style.css': that is the CDN bundle, a second copy of monaco's CSS + base64 fonts.
import '@graphiql/react/style.css'
import '@graphiql/plugin-doc-explorer/style.css'
import '@graphiql/plugin-history/style.css'
import 'graphiql/graphiql.css'
import './app.css'
import { type GraphiQLPlugin, useGraphiQL, useGraphiQLActions } from '@graphiql/react'
import { GraphiQL, HISTORY_PLUGIN } from 'graphiql'
import { type FormEvent, useEffect, useState, useSyncExternalStore } from 'react'
import { createRoot } from 'react-dom/client'
import { createFetcher, type Transport } from './fetcher'

// --- session: a tiny external store, shared by fetcher, panel and header sync
type Session = { token: string | null; user: string | null; transport: Transport }
let session: Session = { token: null, user: null, transport: 'ws' }
const listeners = new Set<() => void>()
function setSession(patch: Partial<Session>) {
  session = { ...session, ...patch }
  for (const l of listeners) l()
}
const useSession = () =>
  useSyncExternalStore(l => (listeners.add(l), () => listeners.delete(l)), () => session)

// Must be stable: a new fetcher identity makes GraphiQL introspect again.
const fetcher = createFetcher({
  url: '/graphql',
  transport: () => session.transport,
  token: () => session.token,
})

const LOGIN = 'mutation Login($u: String!, $p: String!) { login(username: $u, password: $p) { token } }'

function LoginPanel() {
  const s = useSession()
  const [error, setError] = useState('')
  async function submit(e: FormEvent<HTMLFormElement>) {
    e.preventDefault()
    const f = new FormData(e.currentTarget)
    const r = (await fetcher({
      query: LOGIN, operationName: 'Login', variables: { u: f.get('user'), p: f.get('password') },
    })) as { data?: { login?: { token: string } }; errors?: { message: string }[] }
    if (r.data?.login) setSession({ token: r.data.login.token, user: String(f.get('user')) })
    setError(r.errors?.[0]?.message ?? '')
  }
  return (
    <section className="login-panel" aria-label="Sign in">
      {s.token ? (
        <p>
          Signed in as <b>{s.user}</b>{' '}
          <button type="button" onClick={() => setSession({ token: null, user: null })}>Sign out</button>
        </p>
      ) : (
        <form onSubmit={submit}>
          <label>User <input name="user" required /></label>
          <label>Password <input name="password" type="password" required /></label>
          <button type="submit">Sign in</button>
          {error && <p role="alert">{error}</p>}
        </form>
      )}
      <label>
        Subscriptions over{' '}
        <select value={s.transport} onChange={e => setSession({ transport: e.target.value as Transport })}>
          <option value="ws">graphql-ws</option>
          <option value="sse">graphql-sse</option>
        </select>
      </label>
    </section>
  )
}
const LOGIN_PLUGIN: GraphiQLPlugin = {
  title: 'Sign in',
  icon: () => <svg viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="2">
    <circle cx="12" cy="8" r="4" /><path d="M4 21c0-5 4-7 8-7s8 2 8 7" /></svg>,
  content: LoginPanel,
}
const PLUGINS = [HISTORY_PLUGIN, LOGIN_PLUGIN]

/** Always mounted child of GraphiQL: writes the token into the headers editor of every tab shown. */
function HeaderSync() {
  const { token } = useSession()
  const editor = useGraphiQL(s => s.headerEditor)
  const tabId = useGraphiQL(s => s.tabs[s.activeTabIndex]?.id)
  const { introspect } = useGraphiQLActions()
  useEffect(() => {
    if (!editor) return
    let headers: Record<string, string>
    try {
      headers = JSON.parse(editor.getValue() || '{}')
    } catch {
      return // the user is typing
    }
    for (const h of Object.keys(headers)) if (h.toLowerCase() === 'authorization') delete headers[h]
    if (token) headers.Authorization = `Bearer ${token}`
    const text = JSON.stringify(headers, null, 2)
    if (text !== editor.getValue()) editor.setValue(text)
  }, [editor, tabId, token])
  useEffect(() => {
    if (editor && token) void introspect()
  }, [editor, token, introspect])
  return null
}

const DEFAULT_TABS = [
  // Tab 0 takes only `query` from here (its variables/headers are ignored on first load).
  { query: 'query Hello {\n  hello\n}\n' },
  { query: 'query User($id: ID!) {\n  user(id: $id) {\n    id\n    name\n  }\n}\n', variables: '{\n  "id": "1"\n}' },
  { query: 'subscription Ticks {\n  ticks\n}\n' },
]

createRoot(document.getElementById('root')!).render(
  <GraphiQL
    fetcher={fetcher}
    plugins={PLUGINS}
    defaultTabs={DEFAULT_TABS}
    defaultHeaders="{}"
    isHeadersEditorEnabled
    shouldPersistHeaders={false}
    defaultEditorToolsVisibility="headers"
  >
    <GraphiQL.Logo>Playground</GraphiQL.Logo>
    <HeaderSync />
  </GraphiQL>,
)
