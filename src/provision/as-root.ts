/**
 * The command that reads a script for `sh` from its input, as root, whatever the user's login shell is. It starts as few
 * programs as it can: in an emulated guest each takes a noticeable time. sshd sets `USER` (sshd(8), "LOGIN PROCESS").
 */
export const AS_ROOT = `sh -c 'if [ "$USER" = root ]; then exec sh -s
elif command -v sudo >/dev/null; then exec sudo -n sh -s
elif command -v doas >/dev/null; then exec doas -n sh -s
elif [ "$(id -u)" = 0 ]; then exec sh -s
else echo "there is neither sudo nor doas" >&2; exit 1
fi'`;
