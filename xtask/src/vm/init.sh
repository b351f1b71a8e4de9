#!/usr/bin/busybox sh
# The first process of the guest: makes it a machine, runs /job, says how that ended on the second serial line, and
# turns the machine off. Where there is a systemd, that takes its place and does the rest (job.sh).
export PATH=/usr/local/bin:/usr/sbin:/usr/bin HOME=/root TERM=dumb
mkdir -p /root /scratch /run /tmp
/usr/bin/busybox --install -s 2>/dev/null
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /run /tmp /root /scratch
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tracefs trace /sys/kernel/tracing
mount -t debugfs debug /sys/kernel/debug
mount -t bpf bpf /sys/fs/bpf
ln -sf /proc/self/fd /dev/fd
ip link set lo up
# What is dirty stays so until somebody asks: an emulated machine is slow, and tests say themselves when they write back.
echo 60000 >/proc/sys/vm/dirty_expire_centisecs
# Now, since two mounts that ask for the same module at the same time may not both wait for it.
modprobe -a virtio_pci virtio_blk loop xfs btrfs overlay
mount -t ext4 /dev/vda /scratch 2>/dev/null ||
	{ mkfs.ext4 -q -F -E lazy_itable_init=1 /dev/vda && mount /dev/vda /scratch; }
stty -F /dev/ttyS1 -opost 2>/dev/null
echo "guest: up" >/dev/ttyS1
if [ -x /usr/lib/systemd/systemd ]; then
	# What services keep outlives a reboot.
	mkdir -p /scratch/var /var
	mount --bind /scratch/var /var
	exec /usr/lib/systemd/systemd --unit=job.service
fi
cd /scratch
sh /job </dev/null >/dev/ttyS1 2>&1
echo "guest: ended with $?" >/dev/ttyS1
poweroff -f
