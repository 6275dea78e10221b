import type { GraphiQLPlugin } from '@graphiql/react'
import { type FormEvent, useState } from 'react'
import type { Transport } from './fetcher'
import { setSession, signIn, signOut, useSession } from './session'

/** The demo accounts are offered only when the shop runs on the developer's machine. */
const DEMO = ['localhost', '127.0.0.1', '[::1]'].includes(location.hostname)
const DEMO_PASSWORD = 'stoa-demo-password'
const DEMO_ACCOUNTS = ['ada@stoa.test', 'lin@stoa.test', 'admin@stoa.test']

function SignInPanel() {
  const session = useSession()
  const [error, setError] = useState('')
  async function attempt(email: string, password: string) {
    setError('')
    try {
      await signIn(email, password)
    } catch (cause) {
      setError(cause instanceof Error ? cause.message : String(cause))
    }
  }
  function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault()
    const form = new FormData(event.currentTarget)
    void attempt(String(form.get('email')), String(form.get('password')))
  }
  return (
    <section className="sign-in" aria-label="Sign in">
      {session.token ? (
        <>
          <p>
            Signed in as <b>{session.user}</b>. Every operation carries the token.
          </p>
          <button type="button" onClick={() => void signOut()}>
            Sign out
          </button>
        </>
      ) : (
        <form onSubmit={submit}>
          <label>
            E-mail <input name="email" type="email" autoComplete="username" required />
          </label>
          <label>
            Password <input name="password" type="password" autoComplete="current-password" required />
          </label>
          <button type="submit">Sign in</button>
          {DEMO &&
            DEMO_ACCOUNTS.map(email => (
              <button key={email} type="button" onClick={() => void attempt(email, DEMO_PASSWORD)}>
                Demo: {email}
              </button>
            ))}
          {error && <p role="alert">{error}</p>}
        </form>
      )}
      <label>
        Subscription transport
        <select
          value={session.transport}
          onChange={event => setSession({ transport: event.target.value as Transport })}
        >
          <option value="ws">WebSocket (graphql-transport-ws)</option>
          <option value="sse">Server-sent events</option>
        </select>
      </label>
    </section>
  )
}

export const SIGN_IN_PLUGIN: GraphiQLPlugin = {
  title: 'Sign in',
  icon: () => (
    <svg viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="2">
      <circle cx="12" cy="8" r="4" />
      <path d="M4 21c0-5 4-7 8-7s8 2 8 7" />
    </svg>
  ),
  content: SignInPanel,
}
