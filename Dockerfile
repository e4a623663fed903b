# The sensor in a container: `cargo xtask image` builds it and tries it out. Plain `docker build -t ml-ids .` does as well.
#
# toolchain   what `cargo xtask setup` installs: changes with xtask only
# builder     the agent with its kernel programs
# (last)      the agent, certificates, a user; nothing else

FROM rust:1.95-bookworm AS toolchain
ENV ML_IDS_CACHE=/opt/ml-ids
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates gcc libc6-dev libcap2-bin \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /setup
COPY Cargo.toml Cargo.lock ./
COPY xtask xtask
# A workspace of xtask alone, so that no other change makes this layer anew.
RUN sed -i '/^members = /c members = ["xtask"]' Cargo.toml && sed -i '/^default-members = /d; /^exclude = /d' Cargo.toml
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo run --package xtask -- setup && rm -rf target /var/lib/apt/lists/*

FROM toolchain AS builder
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package ml-ids \
    && install -D --mode 0755 target/release/ml-ids /out/ml-ids \
    && objcopy --strip-debug /out/ml-ids \
    # Who vouches for servers, without the 10 MB that the package brings along.
    && cat /usr/share/ca-certificates/mozilla/*.crt > /out/ca-certificates.crt \
    # Permitted, not effective: `run` puts them to use, and what needs none (score, serve) starts where they are not granted.
    && setcap cap_bpf,cap_net_admin,cap_perfmon=p /out/ml-ids

FROM debian:bookworm-slim
RUN groupadd --gid 65532 ml-ids \
    && useradd --no-log-init --uid 65532 --gid 65532 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin ml-ids \
    && install --directory --owner ml-ids --group ml-ids /app/logs /var/lib/ml-ids
COPY --from=builder /out/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=builder /out/ml-ids /usr/local/bin/ml-ids
COPY LICENSE LICENSE-APACHE LICENSE-MIT /usr/share/doc/ml-ids/
WORKDIR /app
ENV LOG_DIR=/app/logs \
    ML_IDS_STATE_DIR=/var/lib/ml-ids \
    ML_IDS_MODEL_CACHE=/var/lib/ml-ids/models
USER ml-ids
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["ml-ids", "health", "--ready"]
ENTRYPOINT ["ml-ids"]
CMD ["run"]
