//! What the processes of the shop agree on: typed ids, event payloads, peer messages and the committed SDL.
