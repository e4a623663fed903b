# What the scripts of the exercise say.
fail() { echo "exercise: $*" >&2; exit 1; }
check() { what=$1; shift; "$@" >/root/said 2>&1 || { cat /root/said >&2; fail "not so: $what"; }; echo "  ok: $what"; }
gone() { [ ! -e "$1" ] && [ ! -L "$1" ] || fail "$1 is still there"; }
