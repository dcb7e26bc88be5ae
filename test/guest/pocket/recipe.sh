# The pocket guest: the distribution's cloud kernel, busybox and dropbear on a
# 1 GiB ext4 disk. Everything is unpacked, nothing is run as root or mounted.
# Sourced by build.sh, which calls guest_packages and guest_build.
# shellcheck shell=bash

# shellcheck disable=SC2034 # read by build.sh
GUEST_NEEDS="e2fsprogs qemu-utils"

readonly POCKET_SIZE_MIB=1019 # and 5 MiB before the partition

# What is taken from the packages; the libraries that these need come along.
readonly POCKET_PROGRAMS=(
  /usr/bin/bash
  /usr/sbin/dropbear
  /usr/bin/dropbearkey
  /usr/bin/dropbearconvert
  /usr/lib/openssh/sftp-server
  /usr/bin/sudo
  /usr/sbin/resize2fs
  /usr/sbin/mke2fs
  /usr/libexec/sudo/sudoers.so
  /usr/lib/x86_64-linux-gnu/security/pam_permit.so
)

guest_packages() {
  local meta kernel
  meta=$(kernel_package)
  kernel=$(apt-cache "${APT_OPTIONS[@]}" depends --important "$meta" |
    sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n1)
  [[ -n $kernel ]] || return 1
  printf '%s\n' "$kernel" busybox-static bash dropbear-bin openssh-sftp-server sudo e2fsprogs
  # Ubuntu has the modules in a package of their own.
  [[ $DISTRIBUTION != ubuntu ]] || printf '%s\n' "${kernel/-image-/-modules-}"
  library_closure bash dropbear-bin sudo e2fsprogs
  grub_packages
}

# copy PATH...: files of the packages to the same place in the guest.
copy() {
  local path
  for path; do
    mkdir -p "$ROOT${path%/*}"
    cp -pL "$STAGE$path" "$ROOT$path"
  done
}

copy_programs() {
  local path library
  copy /usr/lib64/ld-linux-x86-64.so.2 "${POCKET_PROGRAMS[@]}"
  for path in "${POCKET_PROGRAMS[@]}"; do
    # The loader would also look in the host's own directories: not here.
    from_packages_libraries "$path" | while read -r library; do
      [[ $library == "$STAGE"/* ]] || die 1 "$path needs '$library', which no package here has"
      copy "${library#"$STAGE"}"
    done
  done
}

from_packages_libraries() {
  "$STAGE/lib64/ld-linux-x86-64.so.2" --library-path "$(library_path)" --list "$STAGE$1" |
    sed -n -e '/ld-linux/d' -e 's/^.* => \(.*\) (0x.*$/\1/p' -e 's/^\(.* => not found\)$/\1/p'
}

# copy_modules LIST DIRECTORY: the kernel modules named in LIST and those they
# depend on. A name that is not there may be part of the kernel itself.
copy_modules() {
  local list=$1 directory=$2 modules=$STAGE/usr/lib/modules/$VERSION file
  local -A wanted=()
  while read -r name _; do
    [[ -n $name && $name != '#'* ]] || continue
    while read -r file; do
      wanted[$file]=1
    done < <(awk -v "name=$name" '
      { file = $1; sub(/:$/, "", file); base = file; sub(/.*\//, "", base); sub(/\.ko.*/, "", base)
        gsub(/-/, "_", base) }
      base == name { print file; for (i = 2; i <= NF; i++) print $i }' "$modules/modules.dep")
  done <"$list"
  for file in "${!wanted[@]}"; do
    mkdir -p "$directory/usr/lib/modules/$VERSION/${file%/*}"
    cp "$modules/$file" "$directory/usr/lib/modules/$VERSION/$file"
    case $file in
      *.xz) "$STAGE/bin/busybox" unxz "$directory/usr/lib/modules/$VERSION/$file" ;;
      *.zst)
        need zstd zstd
        zstd -qd --rm "$directory/usr/lib/modules/$VERSION/$file"
        ;;
    esac
  done
  cp "$modules"/modules.builtin "$directory/usr/lib/modules/$VERSION/"
  [[ -L $directory/lib ]] || ln -s usr/lib "$directory/lib"
  "$STAGE/bin/busybox" depmod -b "$directory" "$VERSION"
}

make_initramfs() {
  local directory=$1 output=$2
  mkdir -p "$directory"/{bin,dev,proc,sys,root,usr/lib}
  cp "$STAGE/bin/busybox" "$directory/bin/"
  copy_modules "$HERE/pocket/initramfs/modules" "$directory"
  install -m 755 "$HERE/pocket/initramfs/init" "$directory/init"
  (cd "$directory" && find . | sort | "$STAGE/bin/busybox" cpio -o -H newc -R 0:0) >"$output" 2>/dev/null
}

make_root() {
  local name
  mkdir -p "$ROOT"/{boot,dev,etc/dropbear,home,mnt,proc,root,run,srv,sys,tmp} \
    "$ROOT"/usr/{bin,lib,lib64,libexec,local/bin,local/sbin} "$ROOT"/var/{lib/pocket,log,tmp}
  ln -s bin "$ROOT/usr/sbin"
  for name in bin sbin lib lib64; do ln -s "usr/$name" "$ROOT/$name"; done
  ln -s ../run "$ROOT/var/run"

  # busybox gives every command that a package has not got in its own right.
  cp "$STAGE/bin/busybox" "$ROOT/usr/bin/busybox"
  copy_programs
  for name in $("$STAGE/bin/busybox" --list); do
    [[ -e $ROOT/usr/bin/$name ]] || ln -s busybox "$ROOT/usr/bin/$name"
  done
  ln -s openssh/sftp-server "$ROOT/usr/lib/sftp-server"
  for name in ext2 ext3 ext4; do ln -s mke2fs "$ROOT/usr/sbin/mkfs.$name"; done

  cp -r "$HERE/pocket/root/." "$ROOT/"
  ln -s /run/resolv.conf "$ROOT/etc/resolv.conf"
  copy_modules "$HERE/pocket/modules" "$ROOT"
  awk '$2 == "boot" { print $1 }' "$HERE/pocket/modules" >"$ROOT/usr/lib/pocket/boot-modules"
  cp "$STAGE/boot/vmlinuz-$VERSION" "$ROOT/boot/vmlinuz"
  make_initramfs "$WORK/initramfs" "$ROOT/boot/initrd"
}

# Modes that git does not keep, and nobody but root as the owner, whoever builds this.
own_by_root() {
  local partition=$1
  (
    cd "$ROOT" || exit
    find . -mindepth 1 -printf '%P\n' |
      sed -e 's/.*/set_inode_field "&" uid 0\nset_inode_field "&" gid 0/'
    printf 'set_inode_field "%s" mode 010%04o\n' usr/bin/sudo 04755 etc/sudoers 0440 etc/shadow 0600
    printf 'set_inode_field "%s" mode 04%04o\n' root 0700 tmp 01777 var/tmp 01777 etc/sudoers.d 0750
  ) >"$WORK/owners"
  debugfs -w -f "$WORK/owners" "$partition" >"$WORK/owners.log" 2>&1
  ! grep -v -e '^debugfs' "$WORK/owners.log" >&2 || die 1 "debugfs could not set the owners"
}

# guest_build LIST WORK IMAGE: the image from the package files of LIST.
guest_build() {
  local list=$1 image=$3
  need mke2fs e2fsprogs
  need debugfs e2fsprogs
  need qemu-img qemu-utils
  need dpkg-deb dpkg
  STAGE=$WORK/stage ROOT=$WORK/root
  unpack_packages "$list" "$STAGE"
  VERSION=$(cd "$STAGE/usr/lib/modules" && ls)
  "$STAGE/bin/busybox" depmod -b "$STAGE" "$VERSION"
  make_root
  truncate -s "${POCKET_SIZE_MIB}M" "$WORK/partition"
  mke2fs -q -t ext4 -L vmctl-pocket -m 0 -E root_owner=0:0,lazy_itable_init=1 \
    -d "$ROOT" "$WORK/partition"
  own_by_root "$WORK/partition"
  make_disk vmctl-pocket "$WORK/partition" "$WORK/disk"
  to_qcow2 "$WORK/disk" "$image"
}
