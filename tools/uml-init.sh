#!/bin/sh
# The first process of the kernel that tools/uml boots: makes a small system around the command, and ends with it.
# `shared`, from the kernel's command line, is the folder that it shares with the script.
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run LANG=C.UTF-8 TERM=dumb

power_off() {
  echo o >/proc/sysrq-trigger
  while :; do sleep 1; done
}

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmpfs /run
mkdir /run/shared
mount -t hostfs none /run/shared -o "${shared:?}"
export TMPDIR=/run/tmp
mkdir -m 1777 "$TMPDIR"
# The kernel speaks on its first terminal, which is heard by nobody, the command on its second.
stty -F /dev/tty1 -opost
exec >/dev/tty1 2>&1

# Modules are looked for under /lib, which is the machine's own: give the kernel, and the command, a modprobe that looks
# elsewhere.
release=$(uname -r)
mkdir -p /run/kernel/lib/modules /run/bin
ln -s "/usr/lib/uml/modules/$release" "/run/kernel/lib/modules/$release"
printf '#!/bin/sh\nexec %s -d /run/kernel "$@"\n' "$(command -v modprobe)" >/run/bin/modprobe
chmod +x /run/bin/modprobe
echo /run/bin/modprobe >/proc/sys/kernel/modprobe
PATH=/run/bin:$PATH

ip link set lo up
cd "$(cat /run/shared/folder)" || power_off
status=0
(eval "exec $(cat /run/shared/command)") </dev/null || status=$?
echo "$status" >/run/shared/exit
sync
power_off
