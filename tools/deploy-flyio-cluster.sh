#!/usr/bin/env bash
# Deploys a cluster of the app to Fly: secrets, image, Machines, and waits until all of them serve. See --help. It may be run again at
# any time: what is there already is kept or brought up to date.
#
# It keeps to what bash 3.2 knows, which macOS has.
set -euo pipefail
LC_ALL=C # lengths are bytes, [a-z] are 26 letters

name="deploy-flyio-cluster"
root=$(cd "$(dirname "$0")/.." && pwd)

# What the app and flyproxy take as secrets. Only those that are set are passed on.
secret_names=(
  REDIS_URL REDIS_HOST REDIS_PORT REDIS_USERNAME REDIS_PASSWORD JWT_SECRET
  SMTP_HOST SMTP_USER SMTP_PASS SUPABASE_URL SUPABASE_ANON_KEY SUPABASE_SERVICE_KEY
)

usage() {
  cat <<TEXT
Usage: tools/$name.sh [N] [--regions a,b,c] [--app NAME] [--config FILE] [--timeout SECONDS] [--dry-run]

  N                  how many Machines the group app has in the end (3); with --regions, in these regions together
  --regions a,b,c    spread them over these regions (default: where the app has Machines, else primary_region).
                     Machines in other regions stay as they are: they are named at the end, with the command that removes them
  --app NAME         the app's name (default: app in fly.toml); it is created if it does not exist
  --config FILE      the app's fly.toml (default: fly.toml of this project)
  --timeout SECONDS  how long to wait until all serve (300)
  --dry-run          change nothing: look, and print what would be done

Secrets are taken from the environment, those that are set:
  ${secret_names[*]}
REDIS_URL or REDIS_HOST is needed once, here or as a secret that the app has already.
FLY_ORG names the organization of a new app. FLY_API_TOKEN stands in for 'fly auth login'.

Exit codes: 0 done, 1 failed, 64 wrong usage, 78 fly.toml is wrong.
TEXT
}

say() { printf '%s\n' "==> $*"; }
fail() { printf '%s\n' "$name: $1" >&2; shift; for line; do printf '  %s\n' "$line" >&2; done; exit 1; }
wrong_usage() { printf '%s\n' "$name: $1" "See tools/$name.sh --help." >&2; exit 64; }

# --- what was asked for

count='' regions='' app='' config='' timeout=300 dry=''
while [ $# -gt 0 ]; do
  case $1 in
    --regions | --app | --config | --timeout)
      if [ $# -lt 2 ] || [ -z "$2" ]; then wrong_usage "$1 needs a value"; fi
      case $1 in --regions) regions=$2 ;; --app) app=$2 ;; --config) config=$2 ;; --timeout) timeout=$2 ;; esac
      shift 2
      ;;
    --regions=* | --app=* | --config=* | --timeout=*)
      option=${1%%=*} value=${1#*=}
      shift
      set -- "$option" "$value" "$@"
      ;;
    --dry-run) dry=1; shift ;;
    -h | --help) usage; exit 0 ;;
    -*) wrong_usage "unknown flag $1" ;;
    *)
      if [ -n "$count" ]; then wrong_usage "one number of Machines is wanted, not $count and $1"; fi
      if [ -z "$1" ]; then wrong_usage "the number of Machines is empty"; fi
      count=$1
      shift
      ;;
  esac
done
count=${count:-3}
number='^[1-9][0-9]{0,3}$'
[[ $count =~ $number ]] || wrong_usage "\"$count\" is no number of Machines: write 1 to 9999"
[[ $timeout =~ $number ]] || wrong_usage "\"$timeout\" is no number of seconds: write 1 to 9999"
if [ -n "$regions" ] && ! [[ $regions =~ ^[a-z]{3}(,[a-z]{3})*$ ]]; then
  wrong_usage "\"$regions\" is no list of regions: write their codes, such as ams,fra,lhr"
fi
if [ -n "$app" ] && ! [[ $app =~ ^[a-z0-9][a-z0-9-]*$ ]]; then
  wrong_usage "\"$app\" is no name of an app: it has small letters, digits and dashes"
fi
if [ -z "$config" ]; then
  config=fly.toml
else
  case $config in /*) ;; *) config=$PWD/$config ;; esac
fi
cd "$root"
[ -f "$config" ] || fail "there is no $config" "Name the app's fly.toml with --config."
if [ -z "$app" ]; then
  app=$(sed -n "/^ *\[/q; s/^ *app *= *[\"']\([^\"']*\)[\"'].*/\1/p" "$config" | head -n 1)
  [ -n "$app" ] || fail "$config does not name an app" "Write app = \"name\" at its top, or use --app NAME."
fi

# A mistake in fly.toml shows here at once, and otherwise when the deploy is over. Go is not needed for anything else.
if command -v go >/dev/null && [ -d tools/flycheck ]; then
  go run ./tools/flycheck "$config" || exit 78
fi

# --- what is there

if command -v fly >/dev/null; then fly=fly
elif command -v flyctl >/dev/null; then fly=flyctl
else
  fail "fly, Fly's command line tool, is not on PATH" "Install it: https://fly.io/docs/flyctl/install/"
fi
if ! who=$("$fly" auth whoami 2>&1 </dev/null); then
  fail "fly is not logged in ($(tail -n 1 <<<"$who"))" "Run: $fly auth login   (or set FLY_API_TOKEN)"
fi

exists=1
if ! answer=$("$fly" status --app "$app" 2>&1 </dev/null); then
  # The platform's two ways of saying it; a host that is not found is no app that is not there.
  if grep -Eq 'Could not find App|^(Error: )?(failed to get app: )?app not found$' <<<"$answer"; then exists=''
  else fail "cannot look at app $app:" "$(tail -n 1 <<<"$answer")"; fi
fi

has_redis() {
  if [ -n "${REDIS_URL:-}" ] || [ -n "${REDIS_HOST:-}" ]; then return 0; fi
  local names='(FLYPROXY_REGISTRY_)?REDIS_(URL|HOST)|FLYPROXY_REGISTRY_(REDIS_ADDRESSES|STORE|STATIC)'
  if grep -Eq "^ *($names) *=" "$config"; then return 0; fi
  [ -n "$exists" ] || return 1
  local list
  list=$("$fly" secrets list --app "$app" --json 2>&1 </dev/null) || fail "cannot list the secrets of $app:" "$(tail -n 1 <<<"$list")"
  grep -Eq "\"[Nn]ame\": *\"($names)\"" <<<"$list"
}
if ! has_redis; then
  fail "no Redis: neither REDIS_URL nor REDIS_HOST is set here or as a secret of $app" \
    "Without one no Machine finds another. For example: export REDIS_URL=redis://default:password@host:6379" \
    "A Redis on Fly: $fly redis create"
fi

# --- what is done

# How a Machine is asked.
ask=(ssh console --app "$app" --process-group app --quiet)
if grep -q '^machine_config *=' "$config"; then ask+=(--container flyproxy); fi

# do_it runs fly, or says in a dry run that it would.
do_it() {
  if [ -n "$dry" ]; then say "would run: $fly $*"; return 0; fi
  say "$fly $*"
  "$fly" "$@" </dev/null
}

# pipe_secret runs fly with the text $2 on standard input. Neither a command line nor the log has it; $1 says what it is.
pipe_secret() {
  local what=$1 text=$2
  shift 2
  if [ -n "$dry" ]; then say "would run: $fly $* <<< $what"; return 0; fi
  say "$fly $* <<< $what"
  printf '%s' "$text" | "$fly" "$@"
}

# import_line writes NAME=VALUE so that `fly secrets import` reads the same value (flyctl, secrets/parser.go). That takes # for the
# beginning of a comment unless an odd number of " stands before it in the line, knows """ for several lines, and takes one pair of
# quotes away. It fails where the value cannot be written.
import_line() {
  local key=$1 value=$2 first before quotes line rest
  first=${value%%$'\n'*}
  before=${first%%#*}
  quotes=${before//[!\"]/}
  if [ "$first" = "$value" ]; then
    if [ ${#value} -gt 60000 ]; then return 1; fi
    if [ "$before" != "$first" ] && [ $((${#quotes} % 2)) = 0 ]; then printf '%s="""%s"""\n' "$key" "$value"
    else printf "%s='%s'\n" "$key" "$value"; fi
    return 0
  fi
  if [ "$before" != "$first" ] && [ $((${#quotes} % 2)) = 1 ]; then return 1; fi
  rest=$value
  while [ "$rest" != "${rest#*$'\n'}" ]; do # each line but the last
    line=${rest%%$'\n'*}
    rest=${rest#*$'\n'}
    case $line in *'"""' | *$'\r') return 1 ;; esac
    if [ ${#line} -gt 60000 ]; then return 1; fi
  done
  if [ ${#rest} -gt 60000 ]; then return 1; fi
  printf '%s="""%s"""\n' "$key" "$value"
}

# Secrets are read before anything is changed. lines are for `fly secrets import`; single are the names of those that it cannot read.
lines='' masked='' single=()
for key in "${secret_names[@]}"; do
  value=${!key:-}
  [ -n "$value" ] || continue
  if line=$(import_line "$key" "$value"); then
    lines+=$line$'\n'
    masked+="${masked:+, }$key=****"
  elif [[ $value =~ ^[[:space:]] || $value =~ [[:space:]]$ ]] || [ ${#value} -gt 65536 ]; then # which `fly secrets set` cuts off
    fail "the value of $key cannot be passed to fly as it is" \
      "It has white space at an end, or too much text, beside quotes or # on its first line. Set it in the dashboard, and unset it here."
  else
    single+=("$key")
  fi
done

if [ -z "$exists" ]; then
  say "app $app does not exist yet"
  do_it apps create "$app" || fail "app $app could not be created" \
    "Names are unique on all of Fly: choose another with --app NAME. With several organizations, set FLY_ORG."
fi

# Staged: the deploy gives them to the Machines.
if [ -n "$lines" ]; then
  pipe_secret "$masked" "$lines" secrets import --stage --app "$app" || fail "the secrets could not be set" "Nothing was deployed."
fi
for key in ${single[@]+"${single[@]}"}; do
  pipe_secret "$key=****" "${!key}" secrets set --stage --app "$app" "$key=-" || fail "$key could not be set" "Nothing was deployed."
done
if [ -z "$lines" ] && [ ${#single[@]} = 0 ]; then
  say "no secret is set in the environment: those of $app stay as they are"
fi

deploy=(deploy --app "$app" --config "$config" --ha=false --yes) # without --ha=false Fly adds a Machine on standby
if [ -n "$regions" ]; then deploy+=(--primary-region "${regions%%,*}"); fi
if version=$(git describe --tags --always --dirty 2>/dev/null); then deploy+=(--build-arg "VERSION=$version"); fi
do_it "${deploy[@]}" || fail "the deploy failed" \
  "What it says is above; what the Machines say: $fly logs --app $app" \
  "A Machine whose check on /ready fails says why there, and: $fly ${ask[*]} --command 'flyproxy doctor'"

scale=(scale count "app=$count" --app "$app" --yes)
if [ -n "$regions" ]; then scale+=(--region "$regions"); fi
do_it "${scale[@]}" || fail "the deploy is done, but scaling to $count failed" "Run it again, or: $fly ${scale[*]}"

# elsewhere says which Machines of the group app are in other regions than those asked for: scaling leaves them alone. An app that was
# created just now has none.
elsewhere() {
  if [ -z "$regions" ] || [ -z "$exists" ]; then return 0; fi
  local list region n
  if ! list=$("$fly" scale show --app "$app" --json 2>&1 </dev/null); then
    say "(whether there are Machines in other regions is not known: $fly scale show --app $app)"
    return 0
  fi
  awk -v regions=",$regions," '
    /^ *"Process": / { inside = /"app",?$/; next }
    /^ *"Regions": / { within = inside; next }
    /^ *}/ { within = 0 }
    within { gsub(/[":,]/, ""); if (!index(regions, "," $1 ",")) print $1, $2 }' <<<"$list" |
    while read -r region n; do
      say "$n more in $region, which is not among $regions: not counted, and billed. To remove: $fly scale count app=0 --region $region --app $app --yes"
    done
}

# --- until they serve

if [ -n "$dry" ]; then
  say "would run, until $count serve: $fly ${ask[*]} --command 'flyproxy status --json'"
  elsewhere
  exit 0
fi

answers=$(mktemp "${TMPDIR:-/tmp}/$name.XXXXXX")
group=''
# clean ends what bounded has started, which a Ctrl-C does not reach.
clean() {
  if [ -n "$group" ]; then kill -TERM -- "-$group" 2>/dev/null || true; fi
  rm -f "$answers"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# bounded runs a command for at most $1 seconds and then ends it, with all that it has started: fly may be a wrapper (a shim of asdf or
# mise) with a child. What it writes is in the file $answers, since such a child would hold a pipe open. (macOS has no timeout(1).)
bounded() {
  local end=$((SECONDS + $1)) code=0
  shift
  set -m # a process group of its own
  "$@" </dev/null >"$answers" 2>&1 &
  group=$!
  set +m
  while kill -0 "$group" 2>/dev/null; do
    if [ "$SECONDS" -ge "$end" ]; then
      kill -TERM -- "-$group" 2>/dev/null || true
      sleep 1
      kill -KILL -- "-$group" 2>/dev/null || true
      break
    fi
    sleep 0.2
  done
  wait "$group" 2>/dev/null || code=$?
  group=''
  return "$code"
}

# instances reads the JSON of `flyproxy status --json` and writes the app's instances, one a line: region id state. It fails where
# there is no such JSON.
instances() {
  tr -d '\r' | awk -v app="$app" '
    /^  "instances": / { known = 1; inside = /\[$/ }
    !inside { next }
    /^    [{]/ { split("", f) }
    /^      "(app|region|state|id|held)": / {
      key = $1; gsub(/[":]/, "", key)
      value = $0; sub(/^[^:]*: "?/, "", value); sub(/"?,?$/, "", value)
      f[key] = value
    }
    /^    [}]/ { if (f["app"] == app) print (f["region"] == "" ? "-" : f["region"]), f["id"], (f["held"] == "true" ? "held" : f["state"]) }
    /^  []]/ { inside = 0 }
    END { exit !known }'
}

say "waiting until $count serve (at most $timeout s)"
end=$((SECONDS + timeout)) last='' list='' trouble='no answer yet'
while :; do
  left=$((end - SECONDS))
  if [ "$left" -lt 1 ]; then left=1; fi
  if [ "$left" -gt 30 ]; then left=30; fi
  if bounded "$left" "$fly" "${ask[@]}" --command 'flyproxy status --json' && list=$(instances <"$answers"); then
    trouble=''
    serving=$(awk -v regions=",$regions," '$3 == "serving" && (regions == ",," || index(regions, "," $1 ","))' <<<"$list" | wc -l | tr -d ' ')
    if [ "$serving" = "$count" ]; then break; fi
    if [ "$last" != "$serving" ]; then say "$serving of $count serve"; last=$serving; fi
  else
    trouble=$(tail -n 1 "$answers")
    trouble=${trouble:-fly ssh console ended without a word}
  fi
  if [ "$SECONDS" -ge "$end" ]; then
    details=()
    while read -r region id state; do
      if [ -n "$id" ]; then details+=("$id in $region: $state"); fi
    done <<<"$list"
    if [ ${#details[@]} = 0 ]; then details=("No instance of $app is registered."); fi
    if [ -n "$trouble" ]; then details+=("The last answer: $trouble"); fi
    fail "after $timeout s ${last:-0} of $count serve${regions:+ in $regions}:" "${details[@]}" \
      "See: $fly logs --app $app; $fly status --app $app; $fly ${ask[*]} --command 'flyproxy doctor'" \
      "Run this again once it is mended."
  fi
  sleep 2
done

say "$count serve"
if bounded 30 "$fly" "${ask[@]}" --command 'flyproxy status'; then cat "$answers"
else say "(the table could not be had: $fly ${ask[*]} --command 'flyproxy status')"; fi
elsewhere
