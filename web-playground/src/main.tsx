import './workers' // first: configures monaco's workers
// Not 'graphiql/style.css': that is the CDN bundle, with a second copy of monaco's.
import '@graphiql/react/style.css'
import '@graphiql/plugin-doc-explorer/style.css'
import '@graphiql/plugin-history/style.css'
import 'graphiql/graphiql.css'
import './app.css'
import { useGraphiQLActions } from '@graphiql/react'
import { GraphiQL, HISTORY_PLUGIN } from 'graphiql'
import { useEffect } from 'react'
import { createRoot } from 'react-dom/client'
import { EXAMPLES } from './examples'
import { createFetcher } from './fetcher'
import { SIGN_IN_PLUGIN } from './SignIn'
import { currentSession, refresh, useSession } from './session'

// Outside the component: a new identity would make GraphiQL introspect again.
const fetcher = createFetcher({
  url: '/graphql',
  transport: () => currentSession().transport,
  token: () => currentSession().token,
})
const PLUGINS = [HISTORY_PLUGIN, SIGN_IN_PLUGIN]

/** Fetches the schema again after sign-in. */
function Reintrospect() {
  const { token } = useSession()
  const { introspect } = useGraphiQLActions()
  useEffect(() => {
    if (token) void introspect()
  }, [token, introspect])
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
    <Reintrospect />
  </GraphiQL>,
)
