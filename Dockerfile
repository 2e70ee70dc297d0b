# syntax=docker/dockerfile:1
# headrace in a container: one static-ish binary (glibc and libgcc only) on a base without a shell, as an ordinary user.
#
#   docker build -t headrace .
#   docker run --rm headrace demo                          # no configuration, no model server: the built-in ones
#   docker run --rm --network host -v ./headrace.toml:/etc/headrace/headrace.toml:ro \
#       --security-opt seccomp=headrace-seccomp.json --ulimit memlock=-1 --ulimit nofile=1048576 --cpuset-cpus 0-7 headrace
#
# io_uring. Docker's default seccomp profile has refused io_uring_setup, io_uring_enter and io_uring_register since Docker 25, and
# containerd's since 2.0 (so does Kubernetes' RuntimeDefault on it). headrace then runs on its epoll driver and says so in one warning
# line at start; nothing else changes but the speed. To have io_uring, give it the same profile plus those three calls:
# deploy/seccomp-io_uring writes it. (`seccomp=unconfined` also works and takes every other protection away.)
#
# --network host: a bridge costs a NAT pass per packet, and the model servers usually listen on the host's loopback. With a bridge,
# listen on 0.0.0.0 in the configuration and publish 8080; publish 9090 only to a network of your own: it has no authentication.
# --cpuset-cpus: one shard per core the process may use; leave the model servers theirs. --ulimit memlock: registered buffers.

FROM rust:1.95-bookworm AS build
WORKDIR /src
# Cache mounts rather than a layer of dummy sources: the registry and the compiled dependencies survive from build to build on one
# builder, and there is no list of workspace members here to fall out of step with Cargo.toml.
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package headrace --bin headrace \
    && install -D target/release/headrace /out/usr/local/bin/headrace \
    && install -D -m 644 deploy/headrace.toml /out/usr/share/doc/headrace/headrace.toml \
    && install -d /out/etc/headrace

# The same Debian as the builder, so that the C library is never older than the one that was linked against. cc, not static: libgcc.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/ /
# Clients and admin (/livez, /readyz, /metrics).
EXPOSE 8080 9090
# 65532 is `nonroot` in the base image; as a number so that Kubernetes' runAsNonRoot can see it.
USER 65532:65532
# Docker stops with SIGTERM by default; said here because the drain depends on it. `docker stop --time 40` leaves room for
# server.drain_timeout (30 s): Docker's own patience is 10 s.
STOPSIGNAL SIGTERM
# /livez, not /readyz: an orchestrator may restart what is unhealthy, and a GPU that is down is no reason to restart the gateway.
# There is no shell and no curl in the image; the program asks for itself.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["/usr/local/bin/headrace", "probe", "--url", "http://127.0.0.1:9090/livez"]
ENTRYPOINT ["/usr/local/bin/headrace"]
CMD ["serve", "--config", "/etc/headrace/headrace.toml"]
