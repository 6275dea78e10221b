//! The router's server: GraphQL over HTTP, WebSocket and SSE; authentication, limits and the playground.
