#!/usr/bin/env bash
# Fetches packages of this host's distribution, and what they need besides that the debian guest has not,
# for a guest that is to install them without a network. Nothing is fetched that is in the cache.
#   packages.sh NAME...    prints the paths of the package files
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${VMCTL_GUEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vmctl/guests}
GUEST=packages
export LC_ALL=C
umask 022

# shellcheck source=lib.sh
. "$HERE/lib.sh"
# shellcheck source=/dev/null
. /etc/os-release
DISTRIBUTION=$ID RELEASE=${VERSION_CODENAME:-unknown}
# shellcheck source=debian/recipe.sh
. "$HERE/debian/recipe.sh"

(($# > 0)) || die 2 "usage: packages.sh NAME..."
WANTED=("$@")

# What an empty system would have beside the guest's packages, were these installed too.
missing_packages() {
  guest_packages | sort -u >"$WORK/guest" || return 1
  (
    eval "$(declare -f included_packages | sed '1s/.*/guest_names ()/')"
    included_packages() { guest_names && printf '%s\n' "${WANTED[@]}"; }
    guest_packages
  ) | sort -u >"$WORK/both" || return 1
  comm -13 "$WORK/guest" "$WORK/both"
}

list_packages() {
  local -a names
  mapfile -t names < <(missing_packages)
  ((${#names[@]})) && package_files "${names[@]}" >"$WORK/list" && [[ -s $WORK/list ]]
}

mkdir -p "$CACHE"
WORK=$(mktemp -d "$CACHE/packages.list.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
exec 9>"$CACHE/packages.lock"
flock 9
apt_use_machine_lists
list_packages 2>/dev/null || { apt_use_private_lists && list_packages 2>/dev/null; } ||
  { apt_update_private_lists && list_packages; } ||
  die 1 "cannot find ${WANTED[*]} in the package lists of this machine's sources (/etc/apt)"
fetch_packages "$WORK/list" ||
  { apt_update_private_lists && list_packages && fetch_packages "$WORK/list"; } ||
  die 1 "cannot download ${WANTED[*]}: is there a network?"
awk -v pool="$CACHE/packages/" '{ print pool $2 }' "$WORK/list"
