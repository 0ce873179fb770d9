#!/bin/bash
# in-dom0.sh SCENARIO…: runs in dom0. Starts Xen's daemons, runs the scenarios of /share/scenarios one after another, each
# in a process of its own, and prints one TAP stream with one plan at its end.
if [ "$1" = --one ]; then
  # inside the process of one scenario; standard error is its log already
  . /share/lib-xen.sh; . /share/lib-demux.sh
  SCENARIO=$2; cd /run/scenario || exit 1
  . "/share/scenarios/$2.sh"
  : > /run/scenario.end                 # not reached if the scenario exits or dies
  exit 0
fi
. /share/lib-xen.sh; . /share/lib-demux.sh
mkdir -p $LOGS
if ! xen_start > $LOGS/xen-start.log 2>&1; then
  echo "Bail out! Xen's daemons did not start: see logs/xen-start.log"; exit 1
fi
for s; do
  count=$(tap_count)
  echo "# scenario $s, at $(up) s"
  rm -rf /run/scenario /run/scenario.end; mkdir -p /run/scenario
  limit=$(sed -n 's/^# limit: \([0-9]*\).*/\1/p' "/share/scenarios/$s.sh" | head -n 1)
  limit=$(( ${limit:-300} * PATIENCE ))
  timeout -k 10 $limit bash "$0" --one "$s" 2> "$LOGS/$s.log" &
  group=$!                              # timeout leads a process group of its own
  wait $group; status=$?
  if [ ! -e /run/scenario.end ]; then
    [ $status != 124 ] || diag "its limit of $limit s was reached"
    not_ok "$s: the scenario comes to its end"
    diag "status $status"; diag_file "$LOGS/$s.log"; diag_file $XEN_LOG 20
  fi
  clean_up $group 2>> "$LOGS/$s.log"
  xen_log_of "$s"
  echo "# scenario $s ends with $(($(tap_count) - count)) checks"
done
cp -r /var/log/xen $LOGS/ 2>/dev/null
tap_plan
