#!/bin/bash
# merge.t: of two machines' TAP merge.sh makes one, in which no failure of a machine is lost.
HERE=$(cd "$(dirname "$0")" && pwd)
OUT=$(mktemp -d); trap 'rm -rf "$OUT"' EXIT
N=0
is() {                                  # SENTENCE GOT WANTED
  N=$((N + 1))
  if [ "$2" = "$3" ]; then echo "ok $N - $1"; else echo "not ok $N - $1"; printf 'got:\n%s\nwanted:\n%s\n' "$2" "$3" | sed 's/^/# /'; fi
}
merged() { "$HERE/merge.sh" "$OUT" 1 2; }
failures() { merged | grep '^not ok'; }

is "two streams become one, numbered through, with one plan" "$(printf '%s\n' '1 ok 1 - a: x' '2 not ok 1 - b: y' '1 ok 2 - a: z' '1 1..2' '2 1..1' '1 = 0' '2 = 0' | merged | grep -v '^#')" \
"ok 1 - a: x
not ok 2 - b: y
ok 3 - a: z
1..3"
is "a diagnostic says whose it is" "$(printf '%s\n' '2 # got: 3' | merged | head -n 1)" '# [2] got: 3'
is "what is skipped stays skipped" "$(printf '%s\n' '1 ok 7 # SKIP a: no' | merged | head -n 1)" 'ok 1 # SKIP a: no'
is "two that come to their end in order make no failure" "$(printf '%s\n' '1 1..0' '2 1..0' '1 = 0' '2 = 0' | failures)" ''
is "one that dies before its plan fails the whole" "$(printf '%s\n' '1 1..0' '2 ok 1 - b' '1 = 0' '2 = 125' | failures)" \
  'not ok 2 - machine 2 comes to the end of its scenarios'
is "one that bails out, too" "$(printf '%s\n' '1 1..0' '2 Bail out! no Xen' '1 = 0' '2 = 1' | failures)" 'not ok 1 - machine 2 comes to the end of its scenarios'
is "one that is never heard of again, too" "$(printf '%s\n' '1 1..0' '1 = 0' | failures)" 'not ok 1 - machine 2 comes to the end of its scenarios'
is "one that has made fewer checks than it planned, too" "$(printf '%s\n' '1 1..0' '2 ok 1 - b' '2 1..2' '1 = 0' '2 = 0' | failures)" \
  'not ok 2 - machine 2 has made all its checks'
is "one that ends with another status after its plan, too" "$(printf '%s\n' '1 1..0' '2 1..0' '1 = 0' '2 = 137' | failures)" 'not ok 1 - machine 2 ends in order'
is "the table has each scenario's seconds and checks" "$(printf '%s\n' '1 # scenario 00-plain, at 15.1 s' '1 # scenario 00-plain took 12.5 s, 9 checks' |
  merged | awk '$2 == "00-plain" { print $3, $5, $6 }')" '12.5 9 1'
echo "1..$N"
