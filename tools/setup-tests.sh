#!/usr/bin/env bash
# Installs what the tests need beyond Go. As root on Debian it installs packages; otherwise it names what is missing and which
# tests will be skipped for it. With CI set, something missing is an error: there, nothing may be skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
note() { missing+=("$1"); }

# program, Debian package, what is skipped without it
programs=(
  "gcc|gcc|the race detector, without which the suite does not run"
  "redis-server|redis-server|the tests on a real Redis, Redis Cluster and Sentinel, and the fleet test"
  "ip|iproute2|the tests across network namespaces, and of the images"
  "node|nodejs|the grpc-js client and the example in TypeScript"
  "npm|npm|the grpc-js client and the example in TypeScript"
  "python3|python3|the grpcio client and server"
  "javac|default-jdk-headless|the grpc-java client and server"
  "mvn|maven|the grpc-java client and server"
  "buildah|buildah|the tests of the images"
  "debootstrap|debootstrap|the tests of the images"
  "shellcheck|shellcheck|the check of shell scripts"
)

wanted=()
for line in "${programs[@]}"; do
  IFS='|' read -r program package _ <<<"$line"
  command -v "$program" >/dev/null || wanted+=("$package")
done
if command -v python3 >/dev/null && ! python3 -c 'import ensurepip' 2>/dev/null; then
  wanted+=("python3-venv")
fi
if [ "${#wanted[@]}" -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing: ${wanted[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # The services that the packages would start are not ours to run: the tests start their own, on ports of their own.
  policy=/usr/sbin/policy-rc.d
  made=
  if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; made=1; fi
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
  if [ -n "$made" ]; then rm -f "$policy"; fi
fi
for line in "${programs[@]}"; do
  IFS='|' read -r program package what <<<"$line"
  command -v "$program" >/dev/null || note "$program (Debian: $package): $what"
done

if command -v npm >/dev/null; then
  stamp=test/clients/node/node_modules/.installed
  if [ ! -e "$stamp" ] || [ test/clients/node/package-lock.json -nt "$stamp" ]; then
    echo "installing grpc-js"
    if (cd test/clients/node && npm ci --silent --no-audit --no-fund); then touch "$stamp"
    else note "grpc-js (npm ci failed): the grpc-js client"; fi
  fi
fi
if command -v npm >/dev/null; then
  example=examples/node
  if [ ! -e $example/node_modules/.installed ] || [ $example/package-lock.json -nt $example/node_modules/.installed ]; then
    echo "installing what the example in TypeScript needs"
    if (cd $example && npm ci --silent --no-audit --no-fund); then touch $example/node_modules/.installed
    else note "the packages of examples/node (npm ci failed): the example in TypeScript"; fi
  fi
  stamp=$example/dist/.built
  if [ -e $example/node_modules/.installed ] && { [ ! -e "$stamp" ] || [ $example/node_modules/.installed -nt "$stamp" ] ||
    [ -n "$(find $example/src $example/package.json $example/tsconfig.json examples/proto proto \
      -path $example/src/generated -prune -o -type f -newer "$stamp" -print)" ]; }; then
    echo "building the example in TypeScript"
    if log=$(cd $example && npm run --silent build 2>&1); then touch "$stamp"
    else echo "$log"; note "examples/node (npm run build failed): the example in TypeScript"; fi
  fi
fi
if command -v python3 >/dev/null; then
  venv=test/clients/python/.venv
  if [ ! -e "$venv/.installed" ] || [ test/clients/python/requirements.txt -nt "$venv/.installed" ]; then
    echo "installing grpcio"
    if python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check \
      -r test/clients/python/requirements.txt; then touch "$venv/.installed"
    else note "grpcio (pip install failed): the grpcio client and server"; fi
  fi
fi
if command -v javac >/dev/null && command -v mvn >/dev/null; then
  java=test/clients/java
  stamp=$java/target/.installed
  if [ ! -e "$stamp" ] || [ -n "$(find $java/pom.xml $java/src -newer "$stamp")" ]; then
    echo "building the grpc-java client and server"
    rm -rf $java/target
    if log=$(cd $java && mvn -B -q compiler:compile dependency:copy-dependencies 2>&1); then touch "$stamp"
    else echo "$log"; note "grpc-java (mvn failed): the grpc-java client and server"; fi
  fi
fi

if [ "${#missing[@]}" -gt 0 ]; then
  echo
  echo "Missing, so skipped:"
  printf '  %s\n' "${missing[@]}"
  [ "$(id -u)" = 0 ] || echo "Run it as root once to have the Debian packages installed, or install them yourself."
  if [ -n "${CI:-}" ]; then
    echo "CI is set: nothing may be skipped."
    exit 1
  fi
  echo
fi
