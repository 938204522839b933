#!/bin/bash
# Machines on one: network, mount, pid and host name spaces joined by a bridge, each with its own sshd, home and Ray folder.
#
#   machines.sh up FOLDER ENVIRONMENT CHECKOUT     three of them: 10.77.0.2, .3 and .4, with the key FOLDER/key
#   machines.sh kill N                             the machine 10.77.0.N, as when the plug is pulled
#   machines.sh down
#
# Needs root, openssh-server, rsync and iproute2.
set -euo pipefail

kill_machine() {
  for process in $(ip netns pids "gaptune$1" 2>/dev/null); do kill -9 "$process" 2>/dev/null || true; done
}

case "$1" in
  kill) kill_machine "$2"; exit ;;
  down)
    for n in 2 3 4; do
      kill_machine "$n"
      ip netns del "gaptune$n" 2>/dev/null || true
      ip link del "gt$n" 2>/dev/null || true
    done
    ip link del gaptunebr 2>/dev/null || true
    exit ;;
esac

folder=$2 environment=$3 checkout=$4
for key in key hostkey; do ssh-keygen -q -t ed25519 -N "" -f "$folder/$key"; done
cat > "$folder/sshd_config" <<C
Port 22
HostKey $folder/hostkey
AuthorizedKeysFile $folder/key.pub
UsePAM no
StrictModes no
PermitRootLogin yes
PidFile /run/sshd.pid
SetEnv PATH=$environment/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin PYTHONPATH=$checkout RAY_USAGE_STATS_ENABLED=0 RAY_worker_niceness=0 OMP_NUM_THREADS=1
C
cat > "$folder/node.sh" <<N
set -e
mount --make-rprivate /
hostname gaptune\$1
mkdir -p /tmp/ray $folder/home\$1/up $folder/home\$1/work
mount -t overlay overlay -o lowerdir=\$HOME,upperdir=$folder/home\$1/up,workdir=$folder/home\$1/work \$HOME
mount -t tmpfs tmpfs /tmp/ray
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd
ln -sfn $environment \$HOME/gaptune-env
exec /usr/sbin/sshd -D -e -f $folder/sshd_config
N
ip link add gaptunebr type bridge
ip addr add 10.77.0.1/24 dev gaptunebr
ip link set gaptunebr up
for n in 2 3 4; do
  ip netns add "gaptune$n"
  ip link add "gt$n" type veth peer name e0 netns "gaptune$n"
  ip link set "gt$n" master gaptunebr up
  ip -n "gaptune$n" addr add "10.77.0.$n/24" dev e0
  ip -n "gaptune$n" link set e0 up
  ip -n "gaptune$n" link set lo up
  ip -n "gaptune$n" route add default via 10.77.0.1
  setsid ip netns exec "gaptune$n" unshare -m -p -u -f --mount-proc bash "$folder/node.sh" "$n" >"$folder/$n.log" 2>&1 </dev/null &
done
for n in 2 3 4; do
  for _ in $(seq 50); do (exec 3<>"/dev/tcp/10.77.0.$n/22") 2>/dev/null && break; sleep 0.2; done
done
