//! Field classes: what kind of personal data a value is.

/// What kind of data an envelope holds. Bound into the authentication tag, so it can't be changed without the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum FieldClass {
    /// No class was given.
    #[default]
    None = 0,
    /// An email address.
    Email = 1,
    /// A telephone number.
    Phone = 2,
    /// A tax or social-security identifier.
    TaxId = 3,
    /// A name, an address, a date of birth.
    Personal = 4,
    /// A card or account number, an amount.
    Financial = 5,
    /// Free text that somebody searched or asked for.
    Query = 6,
    /// Health data.
    Health = 7,
}

impl FieldClass {
    /// Every class that has a name, in the order of the codes.
    pub const NAMED: [Self; 7] =
        [Self::Email, Self::Phone, Self::TaxId, Self::Personal, Self::Financial, Self::Query, Self::Health];

    /// The class with this header code, or `None` if the format defines none.
    #[must_use]
    #[inline]
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            _ => Self::NAMED.get(usize::from(code) - 1).copied(),
        }
    }

    /// The code in the header.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The class with this name (`email`, `phone`, …), exact and in lower case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMED.into_iter().find(|class| class.name() == Some(name))
    }

    /// The name, or `None` for [`FieldClass::None`].
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::None => return None,
            Self::Email => "email",
            Self::Phone => "phone",
            Self::TaxId => "tax_id",
            Self::Personal => "personal",
            Self::Financial => "financial",
            Self::Query => "query",
            Self::Health => "health",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::FieldClass;

    #[test]
    fn codes_and_names_round_trip() {
        for class in FieldClass::NAMED {
            assert_eq!(FieldClass::from_code(class.code()), Some(class));
            assert_eq!(class.name().and_then(FieldClass::from_name), Some(class));
        }
        assert_eq!(FieldClass::from_code(0), Some(FieldClass::None));
        assert!((8..=255).all(|code| FieldClass::from_code(code).is_none()));
        assert_eq!(FieldClass::from_name("Email"), None);
    }
}
