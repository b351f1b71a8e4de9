#!/usr/bin/busybox sh
# What init.sh does by itself where there is no systemd: runs /job, on the second serial line. After its first run the
# machine is started again as an administrator would do it, after its second one as if the power had gone: what stood in
# memory only is lost. After the third one it is turned off.
export PATH=/usr/local/bin:/usr/sbin:/usr/bin HOME=/root TERM=dumb
exec </dev/null >/dev/ttyS1 2>&1
cd /scratch
BOOT=$(($(cat booted 2>/dev/null) + 1))
echo $BOOT >booted
sync booted
export BOOT
sh /job
status=$?
if [ $BOOT = 1 ]; then
	echo "guest: restarts"
	# What `systemctl reboot` comes to, without a bus to ask for it.
	systemctl --no-block start reboot.target
elif [ $BOOT = 2 ]; then
	echo "guest: restarts"
	# Returns when that has gone out.
	stty -F /dev/ttyS1 -opost
	echo b >/proc/sysrq-trigger
else
	echo "guest: ended with $status"
	poweroff -f
fi
