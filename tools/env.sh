# Where everything lives; sourced by the shell tools, printed for the Python ones (sh tools/env.sh).
PG_MAJOR=${PG_MAJOR:-15}
PGRX_VERSION=0.18.1

if [ "$(id -u)" = 0 ]; then
    # PostgreSQL refuses to run as root, and its user can't look into root's home.
    PRISM_CACHE=${PRISM_CACHE:-/var/cache/prism_crypt}
    SERVER_USER=${SERVER_USER:-postgres}
else
    PRISM_CACHE=${PRISM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/prism_crypt}
    SERVER_USER=$(id -un)
fi

# The PostgreSQL that the private copies are made from: the system's, or one that tools/fetch-postgresql brought.
PG_FETCHED=$PRISM_CACHE/postgresql/$PG_MAJOR
if [ -z "${PG_SOURCE:-}" ]; then
    PG_SOURCE=/usr/lib/postgresql/$PG_MAJOR/bin/pg_config
    [ -x "$PG_SOURCE" ] || [ ! -x "$PG_FETCHED/bin/pg_config" ] || PG_SOURCE=$PG_FETCHED/bin/pg_config
fi

# Two copies, so that `cargo pgrx test` never overwrites a library that a running server has mapped.
private_copy() { # dev | release
    case $PG_SOURCE in
        /usr/lib/postgresql/*) echo "$PRISM_CACHE/pg$PG_MAJOR/$1/usr/lib/postgresql/$PG_MAJOR/bin/pg_config" ;;
        *) echo "$PRISM_CACHE/pg$PG_MAJOR/$1/bin/pg_config" ;;
    esac
}
PG_DEV=$(private_copy dev)
PG_RELEASE=$(private_copy release)

# A build is for the processor that it is made on. Packages, which others run, set it to nothing.
OPTFLAGS=${OPTFLAGS--C target-cpu=native}

CARGO_BIN=${CARGO_HOME:-$HOME/.cargo}/bin
command -v cargo >/dev/null 2>&1 || PATH=$CARGO_BIN:$PATH
# Only there when another cargo-pgrx was installed already: that one is left alone.
OWN_PGRX=$PRISM_CACHE/cargo-pgrx-$PGRX_VERSION
[ ! -d "$OWN_PGRX/bin" ] || PATH=$OWN_PGRX/bin:$PATH
FUZZ_VERSION=0.13.2
OWN_FUZZ=$PRISM_CACHE/cargo-fuzz-$FUZZ_VERSION
[ ! -d "$OWN_FUZZ/bin" ] || PATH=$OWN_FUZZ/bin:$PATH
USER=${USER:-$(id -un)}

export PG_MAJOR PG_SOURCE PG_FETCHED PGRX_VERSION PRISM_CACHE SERVER_USER PG_DEV PG_RELEASE OPTFLAGS OWN_PGRX FUZZ_VERSION OWN_FUZZ PATH USER

case ${0##*/} in
    env.sh) for v in PG_MAJOR PG_SOURCE PGRX_VERSION PRISM_CACHE SERVER_USER PG_DEV PG_RELEASE PATH USER; do
        eval "printf '%s=%s\n' $v \"\$$v\""
    done ;;
esac
