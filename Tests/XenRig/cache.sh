# cache.sh: sourced by run.sh. What is built once and kept in $CACHE.
CACHE=${DEMUX_RIG_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/demux-xenrig}

# product WHAT SCRIPT [FILE…]: prints the directory that `SCRIPT DIRECTORY` has made, once for each content of SCRIPT and
# FILEs.
product() {
  local what=$1 script=$2 made new; shift
  made=$CACHE/$(cat "$@" | sha256sum | cut -c1-16)
  mkdir -p "$CACHE" || return 1
  if [ ! -d "$made" ]; then
    (
      flock 9; [ ! -d "$made" ] || exit 0
      echo "run.sh: making $what in $made (once)" >&2
      new=$(mktemp -d "$CACHE/building.XXXXXX") || exit 1
      if ! "$script" "$new" >&2 9>&-; then rm -rf "$new"; exit 1; fi
      mv -T "$new" "$made"
    ) 9> "$CACHE/lock" || { echo "run.sh: $what could not be made" >&2; return 1; }
  fi
  echo "$made"
}
