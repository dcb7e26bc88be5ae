#!/bin/sh
# Last touches to the installed system: customize.sh ROOT, run by mmdebstrap.
# The files of ./root are already there, from before the packages were installed.
set -eu

root=$1

in_guest() {
  chroot "$root" "$@"
}

# The kernel that GRUB starts is the one that the distribution's links point to,
# so that a kernel update in the guest takes effect.
for directory in / /boot/; do
  [ ! -e "$root${directory}vmlinuz" ] || boot=$directory
done
mkdir -p "$root/boot/grub"
sed "s|@BOOT@|$boot|" "$root/boot/grub/grub.cfg.in" >"$root/boot/grub/grub.cfg"
rm "$root/boot/grub/grub.cfg.in"

# The distribution's own sources, as cloud-init would write them at first boot.
in_guest python3 - <<'PYTHON'
from cloudinit import util, templater
release = util.load_file("/etc/os-release")
fields = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
name = fields["ID"].strip('"')
mirrors = util.load_yaml(util.load_file("/etc/cloud/cloud.cfg"))["system_info"]["package_mirrors"]
primary = next(m for m in mirrors if "default" in m["arches"] or "amd64" in m["arches"])["failsafe"]
text = util.load_file("/etc/cloud/templates/sources.list.%s.tmpl" % name)
util.write_file("/etc/apt/sources.list", templater.render_string(text, {
    "codename": fields["VERSION_CODENAME"].strip('"'),
    "mirror": primary["primary"], "primary": primary["primary"], "security": primary["security"]}))
PYTHON
rm -f "$root"/etc/apt/sources.list.d/*

# Every copy is a machine of its own: no machine-id (an empty file, so that the first
# boot does not count as systemd's "first boot", which resets all units), no host keys.
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id" "$root"/etc/ssh/ssh_host_*
rm -f "$root/etc/hostname"

mask() {
  for unit; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
}

# Housekeeping by the clock has no place in a machine that lives for minutes.
mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
  e2scrub_reap.service fstrim.timer motd-news.timer

# Without KVM each program started at boot costs, and nobody misses these.
mask modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service \
  modprobe@efi_pstore.service modprobe@fuse.service modprobe@loop.service \
  dev-hugepages.mount sys-fs-fuse-connections.mount sys-kernel-config.mount \
  sys-kernel-debug.mount sys-kernel-tracing.mount proc-sys-fs-binfmt_misc.automount \
  systemd-binfmt.service systemd-pstore.service systemd-repart.service \
  systemd-network-generator.service systemd-update-utmp-runlevel.service getty@tty1.service
mkdir -p "$root/etc/systemd/system-generators"
for generator in cryptsetup debug gpt-auto hibernate-resume integritysetup rc-local run \
  system-update sysv veritysetup; do
  ln -s /dev/null "$root/etc/systemd/system-generators/systemd-$generator-generator"
done
in_guest systemctl --quiet enable systemd-networkd.service
