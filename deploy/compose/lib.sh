# shellcheck shell=bash
# What up and smoke.sh have in common. They run in this folder.

say() { printf '%s\n' "$*"; }
die() {
  printf 'parley: %s\n' "$*" >&2
  exit 1
}

container() { docker compose ps --all --quiet "$1"; }

# health prints healthy, unhealthy, starting, or what else the container is.
health() {
  local id
  id=$(container "$1")
  [[ -n $id ]] || { say missing; return; }
  docker inspect --format '{{if .State.Health}}{{if .State.Running}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}{{else}}{{.State.Status}}{{end}}' "$id"
}

# await_healthy waits for services, five minutes at most.
await_healthy() {
  local deadline=$((SECONDS + 300)) service waiting
  while :; do
    waiting=()
    for service in "$@"; do
      [[ $(health "$service") == healthy ]] || waiting+=("$service")
    done
    ((${#waiting[@]} > 0)) || return 0
    if ((SECONDS >= deadline)); then
      for service in "${waiting[@]}"; do say "  $service is $(health "$service")" >&2; done
      die "waited five minutes in vain; \`docker compose logs ${waiting[*]}\` may say why"
    fi
    sleep 1
  done
}

# await_everything waits for what serves all the time; monitoring, which is
# optional, is not among it.
await_everything() {
  await_healthy es1 es2 es3 nats1 nats2 nats3 postgres s3 recorder1 recorder2 views1 views2 web email
}

# load_env reads .env; what is in it is plain text without quotes.
load_env() {
  [[ -f .env ]] || die "there is no .env here; ./up makes it"
  local name value
  while IFS='=' read -r name value; do
    [[ $name =~ ^[A-Z][A-Z0-9_]*$ ]] || continue
    printf -v "$name" '%s' "$value"
  done <.env
}
