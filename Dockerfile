# syntax=docker/dockerfile:1
# One binary, any role: `docker run IMAGE router ...`, `docker run IMAGE subgraph orders`.

FROM node:20-bookworm-slim AS node

FROM rust:1.95-bookworm AS build
# The playground's page is built along with the router.
COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=node /usr/local/lib/node_modules /usr/local/lib/node_modules
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm \
 && ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package stoa \
 && cp target/release/stoa /usr/local/bin/stoa

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --create-home --home-dir /data stoa
COPY --from=build /usr/local/bin/stoa /usr/local/bin/stoa
COPY schema/supergraph.graphql /usr/share/stoa/supergraph.graphql
ENV STOA_DATA_DIR=/data
VOLUME /data
USER stoa
EXPOSE 3000 3001 3002 3003 3004
ENTRYPOINT ["stoa"]
CMD ["up", "--listen", "0.0.0.0:3000"]
