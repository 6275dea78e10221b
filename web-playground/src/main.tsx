import './workers' // first: tells monaco where its workers are
// Not 'graphiql/style.css': that is the CDN bundle, with a second copy of monaco's.
import '@graphiql/react/style.css'
import '@graphiql/plugin-doc-explorer/style.css'
import '@graphiql/plugin-history/style.css'
import 'graphiql/graphiql.css'
import './app.css'
import { useGraphiQL, useGraphiQLActions } from '@graphiql/react'
import { GraphiQL, HISTORY_PLUGIN } from 'graphiql'
import { useEffect } from 'react'
import { createRoot } from 'react-dom/client'
import { EXAMPLES } from './examples'
import { createFetcher } from './fetcher'
import { SIGN_IN_PLUGIN } from './SignIn'
import { currentSession, refresh, useSession } from './session'

// Outside the component: a new identity would make GraphiQL introspect again.
const fetcher = createFetcher({ url: '/graphql', transport: () => currentSession().transport })
const PLUGINS = [HISTORY_PLUGIN, SIGN_IN_PLUGIN]

/** Writes the token into the headers editor of every tab that is shown. */
function HeaderSync() {
  const { token } = useSession()
  const editor = useGraphiQL(state => state.headerEditor)
  const tab = useGraphiQL(state => state.tabs[state.activeTabIndex]?.id)
  const { introspect } = useGraphiQLActions()
  useEffect(() => {
    if (!editor) return
    let headers: Record<string, string>
    try {
      headers = JSON.parse(editor.getValue() || '{}')
    } catch {
      return // somebody is typing
    }
    for (const name of Object.keys(headers)) {
      if (name.toLowerCase() === 'authorization') delete headers[name]
    }
    if (token) headers.Authorization = `Bearer ${token}`
    const text = JSON.stringify(headers, null, 2)
    if (text !== editor.getValue()) editor.setValue(text)
  }, [editor, tab, token])
  useEffect(() => {
    if (editor && token) void introspect()
  }, [editor, token, introspect])
  return null
}

void refresh()

createRoot(document.getElementById('root')!).render(
  <GraphiQL
    fetcher={fetcher}
    plugins={PLUGINS}
    defaultTabs={EXAMPLES}
    defaultHeaders="{}"
    isHeadersEditorEnabled
    shouldPersistHeaders={false}
    defaultEditorToolsVisibility="headers"
  >
    <GraphiQL.Logo>Stoa</GraphiQL.Logo>
    <HeaderSync />
  </GraphiQL>,
)
