# The debian guest: a real system of the host's own distribution and release, with
# systemd, cloud-init and OpenSSH, as close to its public cloud image as boots well
# without KVM. mmdebstrap installs it, from the very package files that its key names.
# Sourced by build.sh, which calls guest_packages and guest_build.
# shellcheck shell=bash

# shellcheck disable=SC2034 # read by build.sh
GUEST_NEEDS="e2fsprogs fakeroot mmdebstrap qemu-utils uidmap"

readonly DEBIAN_LABEL=cloudimg-rootfs
readonly DEBIAN_SIZE_MIB=2043 # and 5 MiB before the partition

included_packages() {
  sed -e '/^#/d' "$HERE/debian/packages"
  kernel_package
}

essential_packages() {
  apt-cache "${APT_OPTIONS[@]}" dumpavail |
    awk '/^Package:/ { name = $2 } /^Essential: yes/ { print name }' | sort -u
}

# apt's own answer to what would be installed on an empty system.
guest_packages() {
  local -a names
  mapfile -t names < <(essential_packages && included_packages)
  apt-get "${APT_OPTIONS[@]}" -s --no-install-recommends install apt "${names[@]}" |
    sed -n 's/^Inst \([^ :]*\).*/\1/p' || return 1
  grub_packages
}

# make_repository LIST DIRECTORY: an apt repository of just these package files.
make_repository() {
  local list=$1 directory=$2 file size hash
  mkdir -p "$directory"
  while read -r _ file size hash; do
    cp --reflink=auto "$CACHE/packages/$file" "$directory/"
    dpkg-deb -f "$directory/$file"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$file" "$size" "${hash#SHA256:}"
  done < <(sort -u "$list") >"$directory/Packages"
  # mmdebstrap takes the essential packages from the suite of that name only.
  printf 'Suite: %s\nCodename: %s\nSHA256:\n %s %s Packages\n' "$RELEASE" "$RELEASE" \
    "$(sha256sum <"$directory/Packages" | cut -d' ' -f1)" "$(stat -c %s "$directory/Packages")" \
    >"$directory/Release"
}

# Installs the system into $SHOP/root.tar. Without root, mmdebstrap works in a user
# namespace, whose root cannot enter a private home directory: hence a folder in /tmp.
install_system() {
  local include
  include=$(included_packages | paste -sd,)
  mmdebstrap --variant=apt --include="$include" \
    --aptopt='APT::Install-Recommends "false"' \
    --hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr \
    --setup-hook="cp -r $SHOP/files/. \"\$1\"" \
    --customize-hook="$SHOP/customize.sh \"\$1\"" \
    "$RELEASE" "$SHOP/root.tar" "deb [trusted=yes] copy:$SHOP/packages ./"
}

# make_partition TAR PARTITION: run as root, or under fakeroot, which makes it look so.
make_partition() {
  mkdir "$SHOP/root"
  tar -C "$SHOP/root" --numeric-owner --exclude='./dev/*' -xpf "$1"
  truncate -s "${DEBIAN_SIZE_MIB}M" "$2"
  mke2fs -q -t ext4 -L "$DEBIAN_LABEL" -d "$SHOP/root" "$2"
}

# guest_build LIST WORK IMAGE: the image from the package files of LIST.
guest_build() {
  local list=$1 image=$3
  need mmdebstrap mmdebstrap
  need mke2fs e2fsprogs
  need qemu-img qemu-utils
  need dpkg-deb dpkg
  if ((UID != 0)); then
    need newuidmap uidmap
    need fakeroot fakeroot
  fi

  # One folder per user and cache; the lock says that nobody else is in it.
  SHOP=${TMPDIR:-/tmp}/vmctl-guest-$UID-$(cksum <<<"$CACHE" | cut -d' ' -f1)
  rm -rf "$SHOP"
  mkdir -m 755 "$SHOP" || die 1 "cannot have $SHOP for itself"
  trap 'rm -rf "$WORK" "$SHOP"' EXIT

  STAGE=$WORK/stage
  local -a names
  mapfile -t names < <(grub_packages)
  unpack_packages "$list" "$STAGE" "${names[@]}"
  make_repository "$list" "$SHOP/packages"
  cp -r "$HERE/debian/root" "$SHOP/files"
  cp "$HERE/debian/customize.sh" "$SHOP/"
  install_system >"$WORK/log" 2>&1 || {
    tail -n 30 "$WORK/log" >&2
    die 1 "mmdebstrap failed"
  }

  if ((UID == 0)); then
    make_partition "$SHOP/root.tar" "$SHOP/partition"
  else
    export SHOP DEBIAN_LABEL DEBIAN_SIZE_MIB
    fakeroot bash -c "set -e; $(declare -f make_partition)
      make_partition '$SHOP/root.tar' '$SHOP/partition'"
  fi
  make_disk "$DEBIAN_LABEL" "$SHOP/partition" "$SHOP/disk"
  to_qcow2 "$SHOP/disk" "$image"
}
