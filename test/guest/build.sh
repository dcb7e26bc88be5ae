#!/usr/bin/env bash
# Builds a guest image from the distribution's packages, or finds the one built before.
#   build.sh NAME          prints the image's path (NAME: pocket or debian)
#   build.sh --key NAME    prints the key that its file name carries
#   build.sh --needs NAME  prints the host packages that building it needs
# VMCTL_GUEST_KERNEL: more words for the kernel's command line.
# See README.md here.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${VMCTL_GUEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vmctl/guests}
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C
umask 022

# shellcheck source=lib.sh
. "$HERE/lib.sh"

usage() {
  die 2 "usage: build.sh [--key|--needs] pocket|debian"
}

# The recipe's identity: every file that takes part, the distribution, and what the
# environment adds to it.
recipe_key() {
  {
    printf '%s %s %s\n' "$DISTRIBUTION" "$RELEASE" "${VMCTL_GUEST_KERNEL:-}"
    cd "$HERE"
    find build.sh lib.sh "$GUEST" -type f -printf '%p %m\n' | sort
    find build.sh lib.sh "$GUEST" -type f -print0 | sort -z | xargs -0 sha256sum
  } | sha256sum | cut -c1-12
}

# The state of the machine's package lists and of our private ones. While it is the
# same, the packages are the same, and nothing needs to be resolved again.
lists_key() {
  find /etc/apt /var/lib/apt/lists "$CACHE/apt/lists" -maxdepth 2 -type f \
    ! -name lock -printf '%p %s %T@\n' 2>/dev/null | sort | sha256sum | cut -c1-12
}

remembered_file() {
  printf '%s/%s-%s.known/%s' "$CACHE" "$GUEST" "$RECIPE" "$(lists_key)"
}

# The image for the lists as they are, if that was found out before and it is there.
recall() {
  local file
  file=$(remembered_file)
  [[ -f $file ]] || return 1
  IMAGE=$CACHE/$(<"$file")
  [[ -f $IMAGE ]]
}

remember() {
  local file
  file=$(remembered_file)
  mkdir -p "${file%/*}"
  printf '%s\n' "${IMAGE##*/}" >"$file.$$"
  mv "$file.$$" "$file"
}

# resolve LIST: writes the package files that the guest is made of to LIST.
resolve() {
  local -a names
  guest_packages >"$1.names" || return 1
  mapfile -t names <"$1.names"
  package_files "${names[@]}" >"$1" || return 1
  [[ -s $1 ]] || return 1
  IMAGE=$CACHE/$GUEST-$RECIPE-$({
    awk '{ print $2, $4 }' "$1" | sort
  } | sha256sum | cut -c1-12).qcow2
}

# The newest image of this very recipe, from whatever package versions.
earlier_image() {
  local -a images
  mapfile -t images < <(find "$CACHE" -maxdepth 1 -name "$GUEST-$RECIPE-*.qcow2" -printf '%T@ %p\n' |
    sort -rn | cut -d' ' -f2-)
  ((${#images[@]})) || return 1
  IMAGE=${images[0]}
}

# Finds out the packages: from the machine's lists, else from our private ones
# (a fresh container has no lists), else from lists fetched now.
resolve_somehow() {
  resolve "$1" 2>/dev/null && return
  if earlier_image; then
    say "the package lists do not say what is current: using the image built before"
    return
  fi
  apt_use_private_lists
  resolve "$1" 2>/dev/null && return
  apt_update_private_lists && resolve "$1" && return
  die 1 "cannot find its packages in the package lists of this machine's sources (/etc/apt)"
}

# Downloads the packages. Lists that are too old name files that are gone (404).
fetch_somehow() {
  fetch_packages "$1" && return
  say "cannot download all packages: the package lists may be old"
  if apt_update_private_lists && resolve "$1"; then
    [[ ! -f $IMAGE ]] || return 0
    fetch_packages "$1" && return
  fi
  earlier_image || die 1 "cannot download its packages: is there a network?"
  say "cannot download current packages: using the image built before"
}

# Builds in a folder of its own and renames: what has an image's name is complete.
# Called under the lock, so any other build folder of this guest is a dead build's.
build() {
  rm -rf "$CACHE/$GUEST".build.*
  WORK=$(mktemp -d "$CACHE/$GUEST.build.XXXXXX")
  trap 'rm -rf "$WORK"' EXIT
  apt_use_machine_lists
  resolve_somehow "$WORK/packages"
  [[ -n $KEY_ONLY || -f $IMAGE ]] || fetch_somehow "$WORK/packages"
  if [[ -z $KEY_ONLY && ! -f $IMAGE ]]; then
    SECONDS=0
    say "building"
    guest_build "$WORK/packages" "$WORK" "$WORK/image.qcow2" >&2
    chmod 444 "$WORK/image.qcow2"
    mv "$WORK/image.qcow2" "$IMAGE"
    say "built in $SECONDS s, $(($(stat -c %s "$IMAGE") / 1000000)) MB"
  fi
  [[ ! -f $IMAGE ]] || remember
}

main() {
  KEY_ONLY=
  local needs=
  case ${1:-} in
    --key) KEY_ONLY=yes && shift ;;
    --needs) needs=yes && shift ;;
  esac
  (($# == 1)) || usage
  GUEST=$1
  case $GUEST in
    pocket | debian) ;;
    *) usage ;;
  esac

  [[ $(uname -m) == x86_64 ]] || die 1 "can be built on amd64 only, this is $(uname -m)"
  command -v apt-get >/dev/null || die 4 "can be built on Debian and Ubuntu only: no apt-get here"
  # shellcheck source=/dev/null
  . /etc/os-release
  DISTRIBUTION=$ID RELEASE=${VERSION_CODENAME:-unknown}
  # shellcheck disable=SC1090
  . "$HERE/$GUEST/recipe.sh"
  if [[ -n $needs ]]; then
    printf '%s\n' "$GUEST_NEEDS"
    return
  fi

  RECIPE=$(recipe_key)
  mkdir -p "$CACHE"
  if ! recall; then
    exec 9>"$CACHE/$GUEST.lock"
    flock --nonblock 9 || { say "waiting for another build" && flock 9; }
    recall || build
  fi
  if [[ -n $KEY_ONLY ]]; then
    IMAGE=${IMAGE##*/"$GUEST"-}
    IMAGE=${IMAGE%.qcow2}
  fi
  printf '%s\n' "$IMAGE"
}

main "$@"
