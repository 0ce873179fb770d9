# lib-xen.sh: sourced in dom0 before the command runs.

# Seconds since dom0's kernel started.
up() { cut -d' ' -f1 /proc/uptime; }

# Starts xenstored, dom0's own entries and xenconsoled. XENSTORED=ocaml takes the other xenstored;
# XENSTORED_TRACE=FILE makes the C one log every operation.
xen_start() {
  export XENSTORED_ROOTDIR=/var/lib/xenstored
  if [ "${XENSTORED:-c}" = ocaml ]; then oxenstored --pid-file /run/xenstored.pid
  else xenstored --pid-file /run/xenstored.pid ${XENSTORED_TRACE:+--trace-file=$XENSTORED_TRACE}; fi
  local i
  for i in $(seq 300); do xenstore-read -s / >/dev/null 2>&1 && break; sleep 0.1; done
  xen-init-dom0 >/run/xen-init-dom0.log 2>&1 || { cat /run/xen-init-dom0.log; return 1; }
  mkdir -p /var/log/xen/console
  xenconsoled --log=all --log-dir=/var/log/xen/console --pid-file=/run/xenconsoled.pid
}

# Brings up the NIC that run.sh -f made.
net_up() {
  modprobe virtio_net
  local i
  for i in $(seq 50); do [ -e /sys/class/net/eth0 ] && break; sleep 0.1; done
  ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up
}
