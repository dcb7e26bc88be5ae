#!/bin/sh
# A Redis that the others on the LAN reach; it replicates that of the machine $PRIMARY, where one is named.
set -eu

cd /tmp/packages
if ls ./*.deb >/dev/null 2>&1; then
  sudo dpkg --install ./*.deb
else
  sudo apt-get update
  sudo apt-get install --yes --no-install-recommends redis-server
fi

sudo tee -a /etc/redis/redis.conf <<CONFIGURATION
bind * -::*
protected-mode no
appendonly yes
appendfsync always
repl-timeout 20
repl-diskless-sync-delay 0
repl-ping-replica-period 1
${PRIMARY:+replicaof $PRIMARY 6379}
CONFIGURATION
sudo systemctl restart redis-server
