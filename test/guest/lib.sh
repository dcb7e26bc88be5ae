# What both guest recipes share: messages, the distribution's packages,
# and putting a root file system on a disk that GRUB starts.
# Sourced by build.sh. Not for running by itself.
# shellcheck shell=bash

# Exit codes: 1 the build failed, 2 wrong usage, 4 something must be installed first.

say() {
  printf 'guest %s: %s\n' "${GUEST:-build}" "$*" >&2
}

die() {
  local code=$1
  shift
  say "$*"
  exit "$code"
}

# need TOOL PACKAGE: stops with the package's name if the host has no TOOL.
# Debian keeps file system tools in /sbin, which a user's PATH may not have.
need() {
  command -v "$1" >/dev/null && return
  die 4 "needs '$1': install the package $2 (apt-get install $2)"
}

# --- The distribution's packages -------------------------------------------

# Options for every apt call: the machine's package lists, as if nothing were
# installed. Needs no root; apt's index of the lists is kept while a build lasts.
apt_use_machine_lists() {
  mkdir -p "$WORK/apt/archives/partial"
  APT_OPTIONS=(-qq -o APT::Sandbox::User=root -o Dir::State::status=/dev/null
    -o "Dir::Cache=$WORK/apt" -o Dir::Cache::pkgcache=pkgcache.bin
    -o Dir::Cache::srcpkgcache=srcpkgcache.bin)
}

# The same with package lists of our own.
apt_use_private_lists() {
  mkdir -p "$CACHE/apt/lists/partial"
  apt_use_machine_lists
  APT_OPTIONS+=(-o "Dir::State::lists=$CACHE/apt/lists")
}

# Fetches the package lists of the machine's own sources into the private copy.
apt_update_private_lists() {
  say "fetching package lists"
  apt_use_private_lists
  flock "$CACHE/apt.lock" apt-get "${APT_OPTIONS[@]}" update >&2
}

# package_files NAME...: one line "URI FILE SIZE SHA256:…" per package.
package_files() {
  (cd / && apt-get "${APT_OPTIONS[@]}" --print-uris download "$@") | tr -d "'"
}

# library_closure NAME...: every library package that the named ones depend on.
library_closure() {
  local -A seen=()
  local -a todo=("$@")
  local name
  while ((${#todo[@]})); do
    local -a next=()
    while read -r name; do
      [[ -z ${seen[$name]:-} ]] || continue
      seen[$name]=1
      next+=("$name")
    done < <(apt-cache "${APT_OPTIONS[@]}" depends --important "${todo[@]}" |
      sed -n 's/^ [ |]\(Pre\)\{0,1\}Depends: \(z\{0,1\}lib[^ ]*\)$/\2/p' |
      grep -Ev '^libpam-(modules-bin|runtime)$')
    todo=("${next[@]}")
  done
  ((${#seen[@]} == 0)) || printf '%s\n' "${!seen[@]}" | sort
}

# fetch_packages LIST: makes $CACHE/packages hold each file of LIST (lines from
# package_files). apt checks what it downloads against the signed lists; a file
# from an earlier run is checked here.
fetch_packages() {
  local list=$1 pool=$CACHE/packages file size hash
  local -a missing=()
  mkdir -p "$pool"
  while read -r _ file size _; do
    [[ -f $pool/$file && $(stat -c %s "$pool/$file") == "$size" ]] || missing+=("$file")
  done <"$list"
  if ((${#missing[@]})); then
    say "downloading ${#missing[@]} packages"
    local incoming
    incoming=$(mktemp -d "$pool/incoming.XXXXXX")
    local -a wanted=()
    for file in "${missing[@]}"; do
      # FILE is name_version_arch.deb with a version's colon as %3a.
      local name=${file%%_*} version=${file#*_}
      version=${version%_*}
      wanted+=("$name=${version//%3a/:}")
    done
    if ! (cd "$incoming" && apt-get "${APT_OPTIONS[@]}" download "${wanted[@]}" >log 2>&1); then
      head -n 3 "$incoming/log" >&2
      rm -rf "$incoming"
      return 1
    fi
    mv "$incoming"/*.deb "$pool/"
    rm -rf "$incoming"
  fi
  while read -r _ file _ hash; do
    printf '%s  %s\n' "${hash#SHA256:}" "$pool/$file"
  done <"$list" | sha256sum --check --quiet >&2 || {
    say "a package file in $pool is damaged: remove it and try again"
    return 1
  }
}

# unpack_packages LIST DIRECTORY [NAME...]: their (or only the named ones') files, with /bin, /sbin and /lib in /usr.
unpack_packages() {
  local list=$1 directory=$2 file name only=" ${*:3} "
  for name in bin sbin lib lib64; do
    mkdir -p "$directory/usr/$name"
    ln -sfn "usr/$name" "$directory/$name"
  done
  while read -r _ file _ _; do
    [[ $# == 2 || $only == *" ${file%%_*} "* ]] || continue
    dpkg-deb --fsys-tarfile "$CACHE/packages/$file" |
      tar -C "$directory" --keep-directory-symlink --no-same-owner -xpf -
  done <"$list"
}

# from_packages PROGRAM ARG...: runs a program of the packages unpacked in $STAGE,
# with their libraries and not the host's.
from_packages() {
  "$STAGE/lib64/ld-linux-x86-64.so.2" --library-path "$(library_path)" "$STAGE$1" "${@:2}"
}

library_path() {
  printf '%s' "$STAGE/usr/lib/x86_64-linux-gnu:$STAGE/usr/libexec/sudo"
}

# The distribution's small kernel for virtual machines, by its versionless name.
kernel_package() {
  case $DISTRIBUTION in
    debian) echo linux-image-cloud-amd64 ;;
    ubuntu) echo linux-image-virtual ;;
    *) die 1 "can be built on Debian and Ubuntu only, this is $DISTRIBUTION" ;;
  esac
}

# --- A disk that starts ------------------------------------------------------

# A 32-bit number as four bytes, lowest first.
le32() {
  local n=$1
  # shellcheck disable=SC2059 # the format is the point: octal escapes
  printf "$(printf '\\%03o\\%03o\\%03o\\%03o' \
    $((n & 255)) $((n >> 8 & 255)) $((n >> 16 & 255)) $((n >> 24 & 255)))"
}

# In sectors of 512 bytes: GRUB for a BIOS, from 1 MiB the EFI system partition with
# GRUB for UEFI, from 5 MiB the root, which can grow as it is the last one.
readonly ESP_START=2048
readonly PARTITION_START=10240

# GRUB runs on the build host only, from its packages: the host needs no GRUB.
grub_packages() {
  printf '%s\n' grub-common grub-pc-bin grub-efi-amd64-bin mtools libdevmapper1.02.1 liblzma5
  library_closure libdevmapper1.02.1
}

# make_grub TARGET SUFFIX LABEL FILE MODULE...: GRUB with what it needs to read
# /boot/grub/grub.cfg from the file system of that label. Our grub.cfg files load
# with $linux and $initrd, which are linux16 and initrd16 on a BIOS: the other loader
# moves the kernel a byte at a time, 1.7 s without KVM. UEFI has no such loader. $words
# are those of VMCTL_GUEST_KERNEL.
make_grub() {
  local target=$1 suffix=$2 label=$3 file=$4
  # shellcheck disable=SC2016 # GRUB's variables
  printf '%s\n' "set linux=linux$suffix" "set initrd=initrd$suffix" 'export linux initrd' \
    "set words='${VMCTL_GUEST_KERNEL:-}'" 'export words' \
    "search --no-floppy --label $label --hint hd0,msdos1 --set root" \
    'set prefix=($root)/boot/grub' 'configfile ($root)/boot/grub/grub.cfg' >"$WORK/early.cfg"
  from_packages /usr/bin/grub-mkimage -O "$target" -d "$STAGE/usr/lib/grub/$target" \
    -p /boot/grub -c "$WORK/early.cfg" -o "$file" \
    part_msdos ext2 search search_label configfile normal boot serial terminal "${@:5}"
}

# make_esp LABEL FILE: an EFI system partition with the loader that UEFI starts where
# no variable names another one.
make_esp() {
  local loader=$WORK/bootx64.efi
  make_grub x86_64-efi '' "$1" "$loader" linux
  truncate -s $(((PARTITION_START - ESP_START) * 512)) "$2"
  from_packages /usr/bin/mformat -i "$2" -H "$ESP_START" -T $((PARTITION_START - ESP_START)) -h 64 -s 32 ::
  from_packages /usr/bin/mmd -i "$2" ::/EFI ::/EFI/BOOT
  from_packages /usr/bin/mcopy -i "$2" "$loader" ::/EFI/BOOT/BOOTX64.EFI
}

# make_disk LABEL PARTITION DISK: the partition's file system, which has that label,
# on a disk with a DOS label that starts by BIOS and by UEFI. No loop device, no mount.
make_disk() {
  local label=$1 partition=$2 disk=$3
  local core=$WORK/core.img sectors=$(($(stat -c %s "$partition") / 512))
  make_grub i386-pc 16 "$label" "$core" biosdisk linux16
  (($(stat -c %s "$core") < (ESP_START - 1) * 512)) || die 1 "GRUB's core image is too big"
  make_esp "$label" "$WORK/esp"
  dd if="$partition" of="$disk" bs=512K seek=$((PARTITION_START / 1024)) conv=sparse status=none
  dd if="$WORK/esp" of="$disk" bs=512 seek="$ESP_START" conv=notrunc status=none
  truncate -s $(((PARTITION_START + sectors) * 512)) "$disk"
  {
    head -c 440 "$STAGE/usr/lib/grub/i386-pc/boot.img"
    printf 'VMCT\0\0'                         # the disk's signature
    printf '\200\376\377\377\203\376\377\377' # active, Linux, CHS out of range
    le32 "$PARTITION_START"
    le32 "$sectors"
    printf '\0\376\377\377\357\376\377\377' # EFI system partition
    le32 "$ESP_START"
    le32 $((PARTITION_START - ESP_START))
    head -c 32 /dev/zero
    printf '\125\252'
  } | dd of="$disk" conv=notrunc status=none
  dd if="$core" of="$disk" bs=512 seek=1 conv=notrunc status=none
}

# to_qcow2 DISK IMAGE: the small, read-only form that overlays stand on. A guest
# reads little pieces, and each makes QEMU unpack a whole cluster: hence small ones.
to_qcow2() {
  qemu-img convert -c -O qcow2 -o compression_type=zstd,cluster_size=16k "$1" "$2" >&2
}
