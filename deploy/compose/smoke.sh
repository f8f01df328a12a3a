#!/usr/bin/env bash
# Brings everything up, sends interactions and reads them back, and does so
# again while one of each part is away: killed, not asked to stop. In the end
# every interaction that was acknowledged is there exactly once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=lib.sh
source lib.sh

usage() {
  cat <<'USAGE'
./smoke.sh             run it; everything stays up
./smoke.sh --down      and take everything down in the end, keeping what it stored
./smoke.sh --volumes   and remove what it stored as well: all of it, also what was there before
USAGE
}

down=
case ${1:-} in
  '') ;;
  --down) down=keep ;;
  --volumes) down=remove ;;
  -h | --help)
    usage
    exit
    ;;
  *)
    usage >&2
    exit 2
    ;;
esac

command -v curl >/dev/null || die "curl is missing: it sends the interactions"
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT

./up
load_env
export PARLEY_API_KEY=${PARLEY_OPERATOR_KEY:?}

user="smoke-$(date +%s)-$$"
sent=0
# How many interactions are sent while something is away.
round=25

# track sends interactions until each is acknowledged. One that is sent again
# has the same messageId, as a client would do it.
track() {
  local deadline i
  for ((i = 0; i < $1; i++)); do
    deadline=$((SECONDS + 120))
    until curl --silent --show-error --fail --max-time 10 --user "${PARLEY_WRITE_KEY:?}:" --header 'Content-Type: application/json' --output /dev/null \
      --data "{\"userId\":\"$user\",\"event\":\"Smoke\",\"messageId\":\"$user-$sent\"}" http://127.0.0.1:7380/v1/track 2>"$errors"; do
      ((SECONDS < deadline)) || die "the tracking API took nothing for two minutes: $(<"$errors")"
      sleep 1
    done
    sent=$((sent + 1))
  done
}

# count asks one of the processes with read models how many interactions it knows of.
count() {
  docker exec --env PARLEY_API_KEY "$(container "$1")" /parley customer get --user-id "$user" --output json 2>"$errors" |
    sed -n 's/.*"interactionCount": *"\{0,1\}\([0-9][0-9]*\).*/\1/p' | head -n 1
}

# await_all waits until processes know of all that was sent, and of no more.
await_all() {
  local service deadline found
  for service in "$@"; do
    deadline=$((SECONDS + 180))
    while :; do
      found=$(count "$service" || true)
      [[ ${found:-0} -lt $sent ]] || break
      ((SECONDS < deadline)) || die "$service knows of ${found:-0} of $sent interactions after three minutes: $(<"$errors")"
      sleep 1
    done
    ((found == sent)) || die "$service knows of $found interactions and $sent were sent: something is there twice"
  done
}

# lose kills a service, goes on without it, and brings it back.
lose() {
  local what=$1 victim=$2 readers=(views1 views2)
  shift 2
  (($# == 0)) || readers=("$@")
  say "Without $what: $victim is killed."
  docker compose kill --signal SIGKILL "$victim" >/dev/null 2>"$errors" || die "cannot kill it: $(<"$errors")"
  track "$round"
  await_all "${readers[@]}"
  say "  $round more were taken and are visible; it comes back."
  docker compose start "$victim" >/dev/null 2>"$errors" || die "cannot start it: $(<"$errors")"
  await_everything
  await_all views1 views2
}

# leader names the EventStoreDB node that the others follow.
leader() {
  local node found
  for node in es1 es2 es3; do
    found=$(printf 'user = "admin:%s"\n' "${EVENTSTORE_PASSWORD:?}" |
      docker exec --interactive "$(container "$node")" curl --silent --fail --config - --cacert /certs/ca/ca.crt 'https://localhost:2113/gossip?format=json' 2>"$errors" |
      tr -d ' \r\n' | tr '{' '\n' | sed -n '/"state":"Leader"/s/.*"httpEndPointIp":"\([^"]*\)".*/\1/p' | head -n 1) || continue
    if [[ -n $found ]]; then
      say "$found"
      return
    fi
  done
  die "no EventStoreDB node says who leads: $(<"$errors")"
}

say "With everything there."
track "$round"
await_all views1 views2

say "A mail."
mail="$user@smoke.invalid"
printf 'From: %s\r\nTo: help@%s\r\nSubject: Smoke\r\nMessage-ID: <%s>\r\n\r\nHello\r\n' "$mail" "${MAIL_DOMAIN:-example.com}" "$mail" |
  curl --silent --show-error --max-time 60 --mail-from "$mail" --mail-rcpt "help@${MAIL_DOMAIN:-example.com}" --upload-file - smtp://127.0.0.1:2525 ||
  die "the mail was not taken; \`docker compose logs email\` may say why"
deadline=$((SECONDS + 60))
# All of them are read, so that the one who writes is not cut off.
until docker exec --env PARLEY_API_KEY "$(container views1)" /parley events tail --from start --no-follow --type parley.email.received --output json 2>"$errors" |
  grep --count --fixed-strings "$mail" >/dev/null; do
  ((SECONDS < deadline)) || die "it is no event after a minute: $(<"$errors")"
  sleep 1
done

lose "the leader of the event store" "$(leader)"
lose "a NATS server" nats1
# One of the two works and the other stands by, so that after both were killed
# the one that worked was among them.
lose "a recorder" recorder1
lose "the other recorder" recorder2
lose "a process with read models" views1 views2
lose "the other one" views2 views1

say "All $sent interactions are there, each of them once."
case $down in
  keep) docker compose --profile monitoring down ;;
  remove) docker compose --profile monitoring down --volumes ;;
esac
