#!/usr/bin/env bash
# A real SLURM on this machine alone, for tests/slurm.py: two nodes with a fake GPU each, on loopback, without systemd and
# without an accounting database. Needs root, and Debian's slurmctld slurmd slurm-client munge.
#   tests/slurm_cluster.sh start|stop FOLDER
set -euo pipefail
command=$1
folder=$2
host=$(hostname -s)
files=(slurm gres cgroup)

start() {
  install -d -m 755 "$folder" "$folder"/{state,log,munge,spool-n1,spool-n2}
  (umask 077 && head -c 128 /dev/urandom >"$folder/munge/key")
  # Memory limits are real where the controllers of cgroup v1 can be written.
  local track=proctrack/linuxproc task=task/none
  if [ -w /sys/fs/cgroup/memory ] && [ -w /sys/fs/cgroup/freezer ]; then
    track=proctrack/cgroup task=task/cgroup
  fi
  # config_overrides: the nodes are as large as the profile asks for, whatever this machine is.
  cat >"$folder/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort=26917
SrunPortRange=26930-26990
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=$track
TaskPlugin=$task
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=2
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
MinJobAge=7200
KillWait=10
JobRequeue=1
GresTypes=gpu
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=26918 CPUs=32 RealMemory=256000 Gres=gpu:1 State=UNKNOWN
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=26919 CPUs=32 RealMemory=256000 Gres=gpu:1 State=UNKNOWN
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=ALL MaxTime=INFINITE State=UP
END
  # SLURM counts GPUs that are character devices: twins of /dev/null.
  for node in n1 n2; do
    [ -e "$folder/gpu-$node" ] || mknod "$folder/gpu-$node" c 1 3
    echo "NodeName=$node Name=gpu File=$folder/gpu-$node"
  done >"$folder/gres.conf"
  printf 'CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nConstrainRAMSpace=yes\nAllowedRAMSpace=100\n' \
    >"$folder/cgroup.conf"
  # Snakemake's plugin takes SLURM_CONF from the jobs, so that an srun in them looks in the default place.
  for name in "${files[@]}"; do
    if [ -e "/etc/slurm/$name.conf" ] && [ ! -L "/etc/slurm/$name.conf" ]; then
      echo "/etc/slurm/$name.conf is another cluster's" >&2
      exit 1
    fi
    ln -sfn "$folder/$name.conf" "/etc/slurm/$name.conf"
  done
  munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" \
    --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" --num-threads=2
  slurmctld -f "$folder/slurm.conf"
  slurmd -f "$folder/slurm.conf" -N n1
  slurmd -f "$folder/slurm.conf" -N n2
  for _ in $(seq 300); do
    [ "$(sinfo --noheader --partition=gpu --states=idle --format=%D 2>/dev/null)" = 2 ] && return
    sleep 0.1
  done
  echo "the nodes did not come up; see $folder/log" >&2
  exit 1
}

stop() {
  for file in "$folder"/{slurmd-n1.pid,slurmd-n2.pid,slurmctld.pid,munge/pid}; do
    [ -s "$file" ] || continue
    pid=$(<"$file")
    kill "$pid" 2>/dev/null || continue
    for _ in $(seq 100); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
  done
  for name in "${files[@]}"; do
    if [ "$(readlink "/etc/slurm/$name.conf")" = "$folder/$name.conf" ]; then
      rm "/etc/slurm/$name.conf"
    fi
  done
}

case $command in
start | stop) "$command" ;;
*)
  echo "usage: $0 start|stop FOLDER" >&2
  exit 2
  ;;
esac
