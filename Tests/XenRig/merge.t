#!/bin/bash
# merge.t: of two machines' TAP merge.sh makes one, in which no failure of a machine is lost.
HERE=$(cd "$(dirname "$0")" && pwd)
OUT=$(mktemp -d); trap 'rm -rf "$OUT"' EXIT
N=0
is() {                                  # SENTENCE GOT WANTED
  N=$((N + 1))
  if [ "$2" = "$3" ]; then echo "ok $N - $1"; return; fi
  echo "not ok $N - $1"; printf 'got:\n%s\nwanted:\n%s\n' "$2" "$3" | sed 's/^/# /'
}
merged() { printf '%s\n' "$@" | "$HERE/merge.sh" "$OUT" 1 2; }
first() { merged "$@" | head -n 1; }
failures() { merged "$@" | grep '^not ok'; }

is "two streams become one, numbered through, with one plan" \
  "$(merged '1 ok 1 - a: x' '2 not ok 1 - b: y' '1 ok 2 - a: z' '1 1..2' '2 1..1' '1 = 0' '2 = 0' | grep -v '^#')" \
"ok 1 - a: x
not ok 2 - b: y
ok 3 - a: z
1..3"
is "a diagnostic says whose it is" "$(first '2 # got: 3')" '# [2] got: 3'
is "what is no TAP becomes a diagnostic" "$(first '2 so it is ok 3')" '# [2] so it is ok 3'
is "what is skipped stays skipped" "$(first '1 ok 7 # SKIP a: no')" 'ok 1 # SKIP a: no'
is "two that come to their end in order make no failure" "$(failures '1 1..0' '2 1..0' '1 = 0' '2 = 0')" ''
is "a machine that dies before its plan fails the whole" "$(failures '1 1..0' '2 ok 1 - b' '1 = 0' '2 = 125')" \
  'not ok 2 - machine 2 comes to the end of its scenarios'
is "one that bails out, too" "$(failures '1 1..0' '2 Bail out! no Xen' '1 = 0' '2 = 1')" \
  'not ok 1 - machine 2 comes to the end of its scenarios'
is "one that is never heard of again, too" "$(failures '1 1..0' '1 = 0')" \
  'not ok 1 - machine 2 comes to the end of its scenarios'
is "one that has made fewer checks than it planned, too" "$(failures '1 1..0' '2 ok 1 - b' '2 1..2' '1 = 0' '2 = 0')" \
  'not ok 2 - machine 2 has made all its checks'
is "one that ends with another status after its plan, too" "$(failures '1 1..0' '2 1..0' '1 = 0' '2 = 137')" \
  'not ok 1 - machine 2 ends in order'
is "one that froze is no failure when another has ended its scenarios" \
  "$(failures '1 1..0' '1 = 0' '2 ok 1 - b' '2 ! 4' '4 1..0' '4 = 0')" ''
is "what it had said against them stands" "$(failures '1 1..0' '1 = 0' '2 not ok 1 - b' '2 ! 4' '4 1..0' '4 = 0')" 'not ok 1 - b'
is "one whose heir does not come to the end fails the whole" "$(failures '1 1..0' '1 = 0' '2 ! 4')" \
  'not ok 1 - machine 4 comes to the end of its scenarios'
is "the table has each scenario's seconds, seconds of the processor, checks and machine" \
  "$(merged '1 # scenario 00-plain, at 15.1 s' '1 # scenario 00-plain ends with 9 checks' |
    awk '$2 == "00-plain" { print $3 ~ /^[0-9]+$/, $4 ~ /^[0-9]+$/, $5, $6 }')" '1 1 9 1'
echo "1..$N"
