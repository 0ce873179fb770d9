#!/bin/bash
# merge.sh OUTDIR MACHINE…: one TAP stream of several machines', line by line as it comes. On standard input are lines
# `MACHINE TEXT`; `MACHINE = STATUS` says that the machine has ended, and with what status. A machine that does not come
# to its plan, bails out, ends with another status than 0 or says nothing of its end is a `not ok`. `MACHINE ! HEIR` says
# that the machine froze, and that another goes on with the scenarios that it had not ended; what it has said stands.
# Before the plan comes a table of scenario, seconds, seconds of the processor and checks; it is left in
# OUTDIR/seconds.txt, too. The seconds are this machine's: dom0's clock is late when dom0 has had to wait for a processor.
# OUTDIR/MACHINE/qemu.pid names the process whose processor seconds are counted.
OUT=$1; shift
declare -A CHECKS PLANNED ENDED BEGAN USED
COUNT=0 SPENT=()
put() { echo "$*"; }
not_ok() { COUNT=$((COUNT + 1)); put "not ok $COUNT - $*"; }
# The processor seconds of machine $1 until now, or nothing.
processor() {
  local pid stat
  read -r pid 2> /dev/null < "$OUT/$1/qemu.pid" && read -r stat 2> /dev/null < "/proc/$pid/stat" || return
  set -- ${stat##*) }
  echo $(( (${12} + ${13}) / $(getconf CLK_TCK) ))
}
ended() {                               # MACHINE STATUS
  local machine=$1 status=$2 log=$OUT/$1/console.log
  ENDED[$machine]=1
  if [ -z "${PLANNED[$machine]}" ]; then not_ok "machine $machine comes to the end of its scenarios"
  elif [ "${PLANNED[$machine]}" != "${CHECKS[$machine]:-0}" ]; then
    not_ok "machine $machine has made all its checks"
    put "# [$machine] planned: ${PLANNED[$machine]}, made: ${CHECKS[$machine]:-0}"
  elif [ "$status" != 0 ]; then not_ok "machine $machine ends in order"
  else return; fi
  put "# [$machine] status $status"
  [ ! -e "$log" ] || { put "# [$machine] its console ends:"; tail -n 15 "$log" | tr -d '\r' | sed "s/^/# [$machine] /"; }
}
begins() { BEGAN[$1]=$SECONDS USED[$1]=$(processor "$1"); }    # MACHINE
ends() {                                # MACHINE NAME CHECKS
  local used; used=$(processor "$1")
  SPENT+=("$(printf '%-20s %7s %9s %7s   %s' "$2" $((SECONDS - BEGAN[$1])) $((used - USED[$1])) "$3" "$1")")
}
while read -r machine text; do
  case $text in
    "ok "[0-9]*|"not ok "[0-9]*)
      COUNT=$((COUNT + 1)) CHECKS[$machine]=$((${CHECKS[$machine]} + 1))
      result=${text%%ok *}ok rest=${text#*ok }
      put "$result $COUNT${rest#"${rest%%[!0-9]*}"}";;
    1..*) PLANNED[$machine]=${text#1..};;
    "= "*) ended "$machine" "${text#= }";;
    "! "*)
      ENDED[$machine]=1
      set -- "$@" "${text#! }"
      put "# [$machine] THE MACHINE FROZE; machine ${text#! } goes on with what it had not ended";;
    "# scenario "*" ends with "*)       # in-dom0.sh: `scenario NAME ends with COUNT checks`
      read -r _ _ name _ _ checks _ <<< "$text"
      ends "$machine" "$name" "$checks"
      put "# [$machine]${text#\#}";;
    "# scenario "*) begins "$machine"; put "# [$machine]${text#\#}";;
    "#"*) put "# [$machine]${text#\#}";;
    *) put "# [$machine] $text";;
  esac
done
for machine; do [ -n "${ENDED[$machine]}" ] || ended "$machine" none; done
{
  printf '%-20s %7s %9s %7s   %s\n' scenario seconds processor checks machine
  [ ${#SPENT[@]} = 0 ] || printf '%s\n' "${SPENT[@]}" | sort
} > "$OUT/seconds.txt"
sed 's/^/# /' "$OUT/seconds.txt"
put "1..$COUNT"
