//! What personal data there is.

use prism_envelope::FieldClass;

/// A kind of personal data: finer than a field class, because each has its own form and its own names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An email address.
    Email,
    /// A telephone number.
    Phone,
    /// An international bank account number.
    Iban,
    /// The number of a payment card.
    Card,
    /// Another number of a bank account.
    Account,
    /// A tax or social-security identifier.
    TaxId,
    /// A date of birth, an age.
    Birth,
    /// A person's name.
    Name,
    /// An address where somebody lives, or a part of it.
    Address,
    /// What somebody earns.
    Income,
    /// Health.
    Health,
    /// What else is told of a person: religion, origin, documents of identity.
    Trait,
}

impl Subject {
    /// The field class of values like this.
    #[must_use]
    pub fn class(self) -> FieldClass {
        match self {
            Self::Email => FieldClass::Email,
            Self::Phone => FieldClass::Phone,
            Self::Iban | Self::Card | Self::Account | Self::Income => FieldClass::Financial,
            Self::TaxId => FieldClass::TaxId,
            Self::Birth | Self::Name | Self::Address | Self::Trait => FieldClass::Personal,
            Self::Health => FieldClass::Health,
        }
    }

    /// For people, in the plural.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Email => "email addresses",
            Self::Phone => "telephone numbers",
            Self::Iban => "IBANs",
            Self::Card => "card numbers",
            Self::Account => "account numbers",
            Self::TaxId => "tax or social-security numbers",
            Self::Birth => "dates of birth",
            Self::Name => "names of people",
            Self::Address => "addresses",
            Self::Income => "incomes",
            Self::Health => "health data",
            Self::Trait => "what describes a person",
        }
    }
}
