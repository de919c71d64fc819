#!/usr/bin/env bash
# Builds an image from the Dockerfile with docker or buildah, whichever works here. `make image` calls it. Its variables:
#
#   IMAGE        its name; default flyproxy:VERSION, or flyproxy-app:VERSION for the target app
#   TARGET       flyproxy (default: the binary alone) or app (the template: supervisord, flyproxy and a sample app)
#   PLATFORM     linux/amd64 or linux/arm64; default: this machine's
#   VERSION      is stamped into the binary
#   BUILDER      docker or buildah; default: the first of them that works
#   IMAGE_FLAGS  are passed on to `docker build` or `buildah build`
#
# GOPROXY, GOSUMDB, GONOSUMDB and GOPRIVATE reach the build if they are set here.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "image: $1" >&2; exit "${2:-1}"; }

version=${VERSION:-dev}
target=${TARGET:-flyproxy}
case $target in
  flyproxy) image=${IMAGE:-flyproxy:$version} ;;
  app) image=${IMAGE:-flyproxy-app:$version} ;;
  *) fail "TARGET is \"$target\": say flyproxy or app" 64 ;;
esac

case $(uname -m) in
  x86_64) here=linux/amd64 ;;
  aarch64 | arm64) here=linux/arm64 ;;
  *) fail "flyproxy's images are for amd64 and arm64, and this machine is $(uname -m)" ;;
esac
platform=${PLATFORM:-$here}
case $platform in
  linux/amd64 | linux/arm64) ;;
  *) fail "PLATFORM is \"$platform\": say linux/amd64 or linux/arm64" 64 ;;
esac

# A docker without its daemon, or with one that this user may not ask, builds nothing.
works() {
  case $1 in
    docker) docker info >/dev/null 2>&1 ;;
    buildah) command -v buildah >/dev/null ;;
    *) fail "BUILDER is \"$1\": say docker or buildah" 64 ;;
  esac
}
builder=${BUILDER:-}
if [ -n "$builder" ]; then
  works "$builder" || fail "BUILDER is $builder, which does not work here: \`docker info\` or \`buildah --version\` says why"
elif works docker; then builder=docker
elif works buildah; then builder=buildah
else
  fail "neither docker nor buildah works here: start docker's daemon (\`docker info\` says what is wrong), or install buildah (Debian: apt-get install buildah)"
fi

flags=(--platform "$platform" --target "$target" --tag "$image" --build-arg "VERSION=$version")
for name in GOPROXY GOSUMDB GONOSUMDB GOPRIVATE; do
  if [ -n "${!name:-}" ]; then flags+=(--build-arg "$name=${!name}"); fi
done
case $builder in
  docker) export DOCKER_BUILDKIT=1 ;; # the older builder knows no BUILDPLATFORM
  buildah) flags+=(--build-arg "BUILDPLATFORM=$here") ;; # up to 1.28 it does not know it by itself
esac
read -r -a more <<<"${IMAGE_FLAGS:-}"
echo "image: $builder builds $image: target $target for $platform"
"$builder" build "${flags[@]}" ${more[@]+"${more[@]}"} .
echo "image: $image is there"
