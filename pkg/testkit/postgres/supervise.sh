# Keeps one throw-away cluster for the process that holds the other end of its
# input: does what that says, a word a line, and answers each with an exit code.
# When the input ends, as it does with the process however that ends, the server
# is stopped and the folder removed.
#
# Arguments: the folder with PostgreSQL's programs, the cluster's folder.
# Descriptor 3 is the lock that says the folder has an owner.
bin=$1 dir=$2

finish() {
  trap '' HUP INT TERM
  "$bin/pg_ctl" -D "$dir/data" -s -w -t 30 -m immediate stop >>"$dir/log" 2>&1
  cd / && rm -rf "$dir"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM
# An answer that nobody reads any more must not keep us from finishing.
trap '' PIPE

while read -r word; do
  case $word in
  init) "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync && : >"$dir/log" ;;
  start) "$bin/pg_ctl" -D "$dir/data" -s -w -t 60 -l "$dir/log" start ;;
  fast | immediate) "$bin/pg_ctl" -D "$dir/data" -s -w -t 60 -m "$word" stop ;;
  *) false ;;
  esac </dev/null >>"$dir/log" 2>&1 3>&-
  echo $?
done
exit 0
