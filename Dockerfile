# One process, one volume, no other service. docs/keep-running.md says how to run it and which sandboxes work inside.
FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY Cargo.toml Cargo.lock ./
COPY crates crates
COPY docs docs
RUN cargo build --release --locked --package dromia --bin dromia

FROM debian:bookworm-slim
# Certificates of the model providers; bubblewrap for machines that allow namespaces only to it.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates bubblewrap \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --home-dir /var/lib/dromia --create-home --shell /usr/sbin/nologin dromia \
 && chmod 700 /var/lib/dromia
COPY --from=build /source/target/release/dromia /usr/local/bin/dromia
COPY scripts/container.sh /usr/local/bin/dromia-container
USER 10001
ENV DROMIA_HOME=/var/lib/dromia/home
VOLUME /var/lib/dromia
EXPOSE 7700
# Drains for limits.drain_ms; give `docker stop` more than that.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["dromia", "status"]
ENTRYPOINT ["dromia-container"]
