#!/bin/sh
# Serves the uploaded page with whatever web server the guest has; a machine without one still shows the file.
set -e
cat /tmp/index.html
if command -v busybox >/dev/null && busybox httpd --help >/dev/null 2>&1; then
    sudo busybox httpd -p 80 -h /tmp
    echo "serving on port 80"
fi
