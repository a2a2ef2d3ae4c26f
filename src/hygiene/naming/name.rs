//! The name of the setting that holds a key, read word by word.

use crate::hygiene::blank::SCHEMA;

const NAME: &[u8] = b"master_key";

/// How much of the name was just read.
#[derive(Default)]
pub struct Name {
    /// How many bytes of its two words.
    matched: usize,
    /// Whether something that may stand between its words came after the last one.
    pub is_glued: bool,
    /// Whether the last one was in a string.
    is_string: bool,
}

/// Where a word stands in a quoted text.
pub struct Piece {
    pub begins: bool,
    pub ends: bool,
    /// Whether it is a called function, or a type after `::`.
    pub is_glue: bool,
    pub is_string: bool,
}

impl Name {
    /// Reads a word. Returns whether it completes the name.
    pub fn word(&mut self, word: &[u8], piece: &Piece) -> bool {
        for from in [self.matched, 0] {
            let expected = if from < SCHEMA.len() { &SCHEMA[from..] } else { &NAME[from - SCHEMA.len()..] };
            let may_follow = match from {
                0 => true,
                _ if from == SCHEMA.len() => self.is_glued,
                // A split word continues only where a string begins.
                _ => piece.begins,
            };
            if may_follow
                && word.len() <= expected.len()
                && word.eq_ignore_ascii_case(&expected[..word.len()])
                && (word.len() == expected.len() || piece.ends)
            {
                self.matched = from + word.len();
                self.is_glued = false;
                self.is_string = piece.is_string;
                let is_whole = self.matched == SCHEMA.len() + NAME.len();
                if is_whole {
                    self.matched = 0;
                }
                return is_whole;
            }
            if from > 0 && piece.is_glue {
                return false;
            }
            self.matched = 0;
        }
        false
    }

    /// Reads a byte that is no word. Dots, and what joins strings, may stand inside the name. A comma between words that are
    /// not in strings belongs to a list, for example of tables.
    pub fn other(&mut self, byte: u8, is_string: bool) {
        let is_of_list = byte == b',' && !self.is_string && !is_string;
        if b".,|()+:\\".contains(&byte) && !is_of_list {
            self.is_glued = true;
        } else {
            self.matched = 0;
        }
    }
}
