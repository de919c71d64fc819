#!/usr/bin/env bash
# Makes the base images that the Dockerfile asks for, under the names that it asks for, where no registry of images can be reached:
#
#   debian:<release>-slim       a minimal Debian, by debootstrap
#   golang:<version>-<release>  the same with this machine's Go and CA certificates
#
# For the local storage of buildah, so afterwards: make image BUILDER=buildah IMAGE_FLAGS=--pull-never. As root, on Debian, with
# buildah and debootstrap. Packages come from the mirror that this machine's apt uses, and its proxy settings for apt go into the images.
set -euo pipefail
dockerfile="$(dirname "$0")/../Dockerfile"

fail() { echo "image-bases: $1" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "debootstrap needs root"
for program in buildah debootstrap go; do
  command -v "$program" >/dev/null || fail "$program is missing (Debian: apt-get install buildah debootstrap)"
done

argument() { sed -n "s/^ARG $1=//p" "$dockerfile" | head -n 1; }
release=$(argument DEBIAN_VERSION)
go_version=$(argument GO_VERSION)
goroot=$(go env GOROOT)
[[ $(go env GOVERSION) == go$go_version* ]] || fail "the Dockerfile asks for Go $go_version, and this is $(go env GOVERSION)"

log=$(mktemp)
containers=()
clean() {
  for c in ${containers[@]+"${containers[@]}"}; do buildah rm "$c" >/dev/null 2>&1 || true; done
  rm -f "$log"
}
trap clean EXIT

# begin BASE: a new container, mounted at $root.
begin() {
  container=$(buildah from --pull-never "$1")
  containers+=("$container")
  root=$(buildah mount "$container")
}
# finish NAME: the container becomes an image.
finish() {
  buildah umount "$container" >/dev/null
  buildah commit --quiet --disable-compression "$container" "localhost/$1" >/dev/null
  buildah rm "$container" >/dev/null
  echo "image-bases: $1"
}

# The mirror that apt takes this release from, or debootstrap's own default.
# shellcheck disable=SC2016 # apt expands it, not the shell
mirror=$({ apt-get indextargets --format '$(REPO_URI)' "Codename: $release" "Component: main" 2>/dev/null || true; } | head -n 1)
begin scratch
# As the published slim images have it: packages leave their documentation out, and dpkg does not await the disk.
mkdir -p "$root/etc/dpkg/dpkg.cfg.d"
cat >"$root/etc/dpkg/dpkg.cfg.d/slim" <<'CONFIGURATION'
force-unsafe-io
path-exclude /usr/share/doc/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
CONFIGURATION
debootstrap --variant=minbase "$release" "$root" ${mirror:+"$mirror"} >"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "debootstrap failed"; }
# What is this machine's own, and what is no longer needed.
rm -rf "$root"/etc/{resolv.conf,hostname} "$root"/var/cache/apt/archives/*.deb "$root"/usr/share/{doc,info,locale,man}/*
apt-config dump | grep -E '^Acquire::(http|https|Retries|ForceIPv)' >"$root/etc/apt/apt.conf.d/90builder" || true
buildah config --cmd bash "$container"
finish "debian:$release-slim"

begin "localhost/debian:$release-slim"
mkdir -p "$root/usr/local/go" "$root/go" "$root/etc/ssl/certs"
tar -C "$goroot" -c --exclude testdata --exclude '*_test.go' bin lib pkg src go.env VERSION | tar -C "$root/usr/local/go" -x
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
buildah config --env GOPATH=/go --env PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
finish "golang:$go_version-$release"
