import { useSyncExternalStore } from 'react'
import type { Transport } from './fetcher'

/** The signed-in user and the subscription transport. The access token is kept in
 * memory only; a reload gets a new one with the httpOnly refresh cookie. */
export type Session = { token: string | null; user: string | null; transport: Transport }

let session: Session = { token: null, user: null, transport: 'ws' }
let timer: ReturnType<typeof setTimeout> | undefined
const listeners = new Set<() => void>()

export const currentSession = () => session

export function setSession(patch: Partial<Session>) {
  session = { ...session, ...patch }
  for (const listener of listeners) listener()
}

export const useSession = () =>
  useSyncExternalStore(
    listener => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    () => session,
  )

type Payload = {
  user: { email: string } | null
  session: { accessToken: string; expiresAt: string } | null
  userErrors: { message: string }[]
}

const FIELDS = '{ user { email } session { accessToken expiresAt } userErrors { message } }'

async function call(query: string, variables: Record<string, unknown>): Promise<Record<string, Payload> | null> {
  const response = await fetch('/graphql', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    credentials: 'same-origin',
    body: JSON.stringify({ query, variables }),
  })
  const answer = await response.json()
  if (answer.errors?.length) throw new Error(answer.errors[0].message)
  return answer.data
}

function take(payload: Payload | undefined) {
  if (!payload?.session) throw new Error(payload?.userErrors[0]?.message ?? 'no answer')
  setSession({ token: payload.session.accessToken, user: payload.user?.email ?? null })
  clearTimeout(timer)
  // Refresh a minute before the token expires, or at half its lifetime if that is later.
  const left = Date.parse(payload.session.expiresAt) - Date.now()
  timer = setTimeout(() => void refresh(), Math.max(left / 2, left - 60_000))
}

export async function signIn(email: string, password: string) {
  const data = await call(`mutation SignIn($input: LoginInput!) { login(input: $input) ${FIELDS} }`, {
    input: { email, password },
  })
  take(data?.login)
}

/** Restores the session from the refresh cookie, if there is one. */
export async function refresh() {
  try {
    const data = await call(`mutation Refresh { refreshSession ${FIELDS} }`, {})
    take(data?.refreshSession)
  } catch {
    setSession({ token: null, user: null })
  }
}

export async function signOut() {
  clearTimeout(timer)
  setSession({ token: null, user: null })
  await call('mutation SignOut { logout { userErrors { message } } }', {}).catch(() => null)
}
