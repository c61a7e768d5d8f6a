#!/bin/sh
# Process 1 of the user-mode Linux guest, and its agent (vm/uml.ts is the other end). POSIX sh.
#
# The host's file system is the root, read-only; whatever must be written to is a tmpfs. Two channels lead out:
#   /dev/ttyS0   control, a line at a time.  host: run ID | kill ID SIGNAL | halt    guest: ready RELEASE | done ID STATUS
#   /run/nke     hostfs of a folder made for this guest, mounted sync so that the host sees output as it is written:
#                ID/argv (NUL-separated), ID/in (if any) from the host; ID/out, ID/err from the guest
# From the kernel's command line come NKE_SHARE (that folder) and NKE_MODULES (comma-separated modules to load).

export PATH=/run/nke-bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C TERM=dumb

# "job ID ARGV...": runs one command in a session of its own (setsid came before), for the agent below.
if [ "$1" = job ]; then
  id=$2
  shift 2
  dir=/run/nke/$id
  trap : HUP INT QUIT TERM # a signal to the group is for the command; this shell lives on to tell the status
  input=/dev/null
  [ -f "$dir/in" ] && input=$dir/in
  # The subshell has default traps again: a signal that comes as soon as the pid can be read ends the command.
  (
    echo $$ >"/run/jobs/$id"
    exec "$@"
  ) <"$input" >"$dir/out" 2>"$dir/err"
  echo $? >"/run/jobs/$id.status"
  exit
fi

mount -t proc proc /proc
mount -t sysfs sysfs /sys
for dir in /run /tmp /var/tmp /dev/shm; do
  [ -d "$dir" ] || mkdir "$dir" || continue
  mount -t tmpfs tmpfs "$dir"
done
mkdir -p /dev/pts /run/nke /run/jobs /run/nke-bin /run/netns "/run/kmod/lib/modules"
mount -t devpts devpts /dev/pts
mount -t hostfs -o "sync,$NKE_SHARE" none /run/nke || echo 'guest-init: no shared folder'

# The modules lie in /usr/lib/uml, not in /lib/modules, and the root is read-only: modprobe gets a base folder of its
# own (-d), also when the kernel asks for a module by itself (socket() of an unknown protocol).
ln -s "/usr/lib/uml/modules/$(uname -r)" /run/kmod/lib/modules/
cat >/run/nke-bin/modprobe <<END
#!/bin/sh
exec $(command -v modprobe) -d /run/kmod "\$@"
END
chmod +x /run/nke-bin/modprobe
echo /run/nke-bin/modprobe >/proc/sys/kernel/modprobe
for module in $(echo "$NKE_MODULES" | tr , ' '); do
  modprobe "$module" || echo "guest-init: module $module did not load"
done

# No router and no duplicate here: an address serves at once and captures stay quiet.
for file in /proc/sys/net/ipv6/conf/*; do
  [ -d "$file" ] && echo 0 >"$file/accept_dad" && echo 0 >"$file/router_solicitations" && echo 0 >"$file/accept_ra"
done
ip link set lo up

stty -F /dev/ttyS0 raw -echo
exec 3<>/dev/ttyS0

# Runs job $1 and tells its status; xargs turns the NUL-separated file into arguments, no shell sees them as text.
run() {
  xargs -0 -x -a "/run/nke/$1/argv" setsid /run/nke/guest-init.sh job "$1" 3>&-
  if [ -f "/run/jobs/$1.status" ]; then
    read -r status <"/run/jobs/$1.status"
  else
    status=137 # killed, the shell that would have told too
  fi
  rm -f "/run/jobs/$1" "/run/jobs/$1.status"
  echo "done $1 $status" >&3
}

# Sends signal $2 to job $1, which may only just be starting.
send_signal() {
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    if [ -s "/run/jobs/$1" ]; then
      read -r pid <"/run/jobs/$1"
      kill -s "$2" -- "-$pid"
      return
    fi
    sleep 0.1
  done
}

echo "ready $(uname -r)" >&3
while read -r verb id argument <&3; do # ends at "halt", and when the host end of the line is gone
  case $verb in
    run) run "$id" & ;;
    kill) send_signal "$id" "$argument" & ;;
    halt) break ;;
  esac
done
echo o >/proc/sysrq-trigger
sleep 5
