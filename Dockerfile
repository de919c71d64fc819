# Two images from one file:
#
#   flyproxy   the default: the binary and CA certificates. For `COPY --from`, for gateways, for Machines of several containers.
#   app        supervisord, flyproxy and a sample app in one Machine: the template to copy.
#
#   make image
#   make image TARGET=app
#   make image PLATFORM=linux/arm64
ARG GO_VERSION=1.26
ARG DEBIAN_VERSION=bookworm

# Runs on the builder's own platform and compiles for the target's, so nothing is emulated.
FROM --platform=$BUILDPLATFORM golang:${GO_VERSION}-${DEBIAN_VERSION} AS build
WORKDIR /src
# For networks without the public module proxy. Empty means Go's own defaults.
ARG GOPROXY=""
ARG GOSUMDB=""
ARG GONOSUMDB=""
ARG GOPRIVATE=""
# The toolchain is the image's: none is downloaded.
ENV CGO_ENABLED=0 GOTOOLCHAIN=local
# Modules change seldom: a layer of their own.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
# What `flyproxy version` says.
ARG VERSION=dev
ENV GOOS=$TARGETOS GOARCH=$TARGETARCH
# /out/run is for the image of the binary alone, which has no mkdir.
RUN mkdir -p /out/run && \
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/flyproxy ./cmd/flyproxy && \
    go build -trimpath -ldflags "-s -w" -o /out/app ./examples/go

# The template. For your own app, replace what is marked; an app in another language keeps its own base image, takes the binary with
# `COPY --from=<the image flyproxy> /usr/local/bin/flyproxy /usr/local/bin/`, and has no need of the build stage.
FROM debian:${DEBIAN_VERSION}-slim AS app
# For another platform than the builder's, the RUN of this stage is emulated.
# CA certificates are for rediss:// and for what your app calls. supervisor needs Python, which is most of this image's size;
# `flyproxy run -- app` as the command does without it, and with USER app: run gives the app its own user.
RUN apt-get update && \
    apt-get install -y --no-install-recommends ca-certificates supervisor && \
    rm -rf /var/lib/apt/lists/* && \
    useradd --system --create-home app
COPY --from=build /out/flyproxy /usr/local/bin/
# Your app, and in supervisord.conf how it is started:
COPY --from=build /out/app /usr/local/bin/
COPY supervisord.conf /etc/supervisord.conf
# Configuration comes from the environment (fly.toml, secrets). A file would be /etc/flyproxy/flyproxy.yaml; see configs/flyproxy.yaml.
# No ENTRYPOINT: each process group in fly.toml names its whole command.
CMD ["supervisord", "-c", "/etc/supervisord.conf"]

# The last stage is the one that is built when none is named.
FROM scratch AS flyproxy
ENV PATH=/usr/local/bin
# For rediss:// and https://.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
# The control socket's folder, for a user who is not root.
COPY --from=build --chown=65532:65532 /out/run /run
COPY --from=build /out/flyproxy /usr/local/bin/
USER 65532:65532
# No ENTRYPOINT, as above: `flyproxy serve --mode gateway` and the like are whole commands.
CMD ["flyproxy", "serve"]
