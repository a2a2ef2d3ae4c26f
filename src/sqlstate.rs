//! SQLSTATEs in PostgreSQL's packed form.

/// Packs five characters as `MAKE_SQLSTATE` in elog.h does: six bits each, the first one lowest.
pub const fn sqlstate(code: [u8; 5]) -> i32 {
    let (mut packed, mut at) = (0, 0);
    while at < 5 {
        packed |= (code[at].wrapping_sub(b'0') as i32 & 0x3f) << (6 * at);
        at += 1;
    }
    packed
}

/// The five characters of a packed SQLSTATE.
pub fn unpacked(code: i32) -> [u8; 5] {
    std::array::from_fn(|at| (code >> (6 * at) & 0x3f) as u8 + b'0')
}

/// Whether two SQLSTATEs have the same class, which is their first two characters.
pub const fn is_of_class(code: i32, other: i32) -> bool {
    const CLASS: i32 = 0xfff;
    code & CLASS == other & CLASS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacks_what_is_packed() {
        for code in [*b"00000", *b"42P01", *b"ZZZZZ"] {
            assert_eq!(unpacked(sqlstate(code)), code);
        }
    }
}
