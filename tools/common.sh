# Small helpers of the shell tools; sourced.
say() { printf '==> %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

major_of() { # pg_config
    major=$("$1" --version | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p')
    check_major "$major" "$1"
    echo "$major"
}

check_major() { # major, where it is from
    case $1 in
        14 | 15 | 16 | 17 | 18) ;;
        *) die "$2: prism_crypt is for PostgreSQL 14 to 18, not ${1:-an unknown version}" ;;
    esac
}

# Whether one of these files is there (patterns that match nothing stay as they are).
have() {
    for file in "$@"; do [ ! -e "$file" ] || return 0; done
    return 1
}

# What a build needs beside PostgreSQL, as what each is (for a person) and the Debian package that has it.
missing_for_build() {
    command -v cc >/dev/null 2>&1 && [ -e /usr/include/stdio.h ] || echo "gcc libc6-dev"
    have "${LIBCLANG_PATH:-/usr/lib/llvm}"/libclang*.so* /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* \
        /usr/lib64/libclang*.so* || echo "libclang-dev"
    # bindgen asks clang itself where its headers are.
    command -v clang >/dev/null 2>&1 || echo "clang"
}

# The same for the command-line tool, whose connections use OpenSSL.
missing_for_cli() {
    command -v cc >/dev/null 2>&1 && [ -e /usr/include/stdio.h ] || echo "gcc libc6-dev"
    command -v pkg-config >/dev/null 2>&1 || echo "pkg-config"
    have "${OPENSSL_DIR:-/usr}/include/openssl/ssl.h" || echo "libssl-dev"
}

check_rust() {
    command -v cargo >/dev/null 2>&1 && command -v rustc >/dev/null 2>&1 ||
        die "no Rust here: install a toolchain first (https://rustup.rs)"
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    found=$(rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p')
    [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)" = "$wanted" ] ||
        die "Rust $wanted or later is needed, and this is ${found:-none that works} (rustup update stable)"
}

check_headers() { # pg_config
    [ -e "$("$1" --includedir-server)/postgres.h" ] ||
        die "$("$1" --version) has no server headers ($("$1" --includedir-server)/postgres.h): install postgresql-server-dev-$(major_of "$1") or its like"
}
