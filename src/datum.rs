//! Function arguments and results as PostgreSQL passes them. Arguments are borrowed; a result is allocated once.

use crate::error::Error;
use crate::varlena::Varlena;
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{Datum, FromDatum, Internal, IntoDatum};
use pgrx::pg_sys;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use prism_envelope::{Envelope, FormatError, KeyVersion, SearchTag};
use std::ptr::NonNull;

/// The payload of a varlena argument, detoasted if needed.
#[derive(Clone, Copy)]
pub struct Payload<'a>(&'a [u8]);

impl<'a> Payload<'a> {
    /// The bytes.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// # Safety
    /// `datum` is a non-null varlena that lives as long as `'a`.
    pub unsafe fn of(datum: pg_sys::Datum) -> Self {
        // SAFETY: as promised by the caller. Only compressed and out-of-line values are copied.
        unsafe {
            let mut pointer = datum.cast_mut_ptr::<pg_sys::varlena>();
            if pgrx::varatt_is_1b_e(pointer) || pgrx::varatt_is_4b_c(pointer) {
                pointer = pg_sys::pg_detoast_datum_packed(pointer);
            }
            Self(pgrx::varlena_to_byte_slice(pointer))
        }
    }
}

/// An argument of type `text`: its bytes in the server encoding.
#[derive(Clone, Copy)]
pub struct Text<'a>(pub Payload<'a>);

/// An argument of type `bytea`.
#[derive(Clone, Copy)]
pub struct Bytea<'a>(pub Payload<'a>);

/// An argument of type `encrypted_text`: the bytes of an envelope, not parsed yet.
#[derive(Clone, Copy)]
pub struct Encrypted<'a>(Payload<'a>);

impl<'a> Encrypted<'a> {
    /// The bytes of the envelope.
    pub fn bytes(self) -> &'a [u8] {
        self.0.bytes()
    }

    /// # Safety
    /// `datum` is a non-null `encrypted_text` that lives as long as `'a`.
    pub unsafe fn of(datum: pg_sys::Datum) -> Self {
        // SAFETY: as promised by the caller.
        Self(unsafe { Payload::of(datum) })
    }

    /// The envelope. Values are checked on input, so a malformed one is damaged.
    pub fn envelope(self) -> Result<Envelope<'a>, Error> {
        Envelope::parse(self.bytes()).map_err(Error::StoredValue)
    }
}

impl<'a> Bytea<'a> {
    /// The envelope in a `bytea`, which may hold any bytes.
    pub fn envelope(self) -> Result<Envelope<'a>, Error> {
        Envelope::parse(self.0.bytes()).map_err(Error::NotAnEnvelope)
    }
}

/// An argument of type `encrypted_text` or `bytea`. Only its front is fetched, however long it is.
pub struct Front<'a> {
    bytes: &'a [u8],
    length: usize,
}

impl<'a> Front<'a> {
    /// # Safety
    /// `datum` is a non-null varlena that lives as long as `'a`. A fetched slice is palloc'd.
    pub unsafe fn of(datum: pg_sys::Datum) -> Self {
        // SAFETY: as promised by the caller.
        unsafe {
            let pointer = datum.cast_mut_ptr::<pg_sys::varlena>();
            if pgrx::varatt_is_1b_e(pointer) || pgrx::varatt_is_4b_c(pointer) {
                let length = pg_sys::toast_raw_datum_size(datum).saturating_sub(pg_sys::VARHDRSZ);
                let slice = pg_sys::pg_detoast_datum_slice(pointer, 0, Envelope::PEEK_TAG_LEN as i32);
                return Self { bytes: pgrx::varlena_to_byte_slice(slice), length };
            }
            let bytes = pgrx::varlena_to_byte_slice(pointer);
            Self { bytes, length: bytes.len() }
        }
    }

    /// The key version that the front names.
    pub fn key_version(&self) -> Result<KeyVersion, FormatError> {
        Envelope::peek_key_version(self.bytes)
    }

    /// The search tag, if it has one.
    #[inline]
    pub fn search_tag(&self) -> Option<SearchTag> {
        Envelope::peek_search_tag(self.bytes)
    }

    /// The key version, if front and length show a well-formed envelope.
    pub fn envelope_version(&self) -> Result<KeyVersion, FormatError> {
        Envelope::peek(self.bytes, self.length)
    }
}

/// An argument of type `encrypted_text`. Only its front is fetched until the rest is needed.
pub struct Stored<'a> {
    datum: pg_sys::Datum,
    front: Front<'a>,
}

impl<'a> Stored<'a> {
    /// The search tag, if it has one.
    #[inline]
    pub fn search_tag(&self) -> Option<SearchTag> {
        self.front.search_tag()
    }

    /// The key version.
    #[inline]
    pub fn key_version(&self) -> Result<KeyVersion, Error> {
        self.front.key_version().map_err(Error::StoredValue)
    }

    /// The first bytes, or all of them if nothing had to be fetched.
    pub fn front(&self) -> &'a [u8] {
        self.front.bytes
    }

    /// The length of the envelope in bytes.
    pub fn len(&self) -> usize {
        self.front.length
    }

    /// The whole value.
    pub fn value(&self) -> Encrypted<'a> {
        // SAFETY: the datum is a non-null varlena of that lifetime.
        Encrypted(unsafe { Payload::of(self.datum) })
    }
}

/// A result of type `internal`: a PostgreSQL node or the null pointer, which is not SQL NULL.
pub struct Node(pg_sys::Datum);

impl Node {
    /// The null pointer.
    pub const NONE: Self = Self(pg_sys::Datum::null());

    /// Wraps a node.
    pub fn of(node: *mut pg_sys::Node) -> Self {
        Self(pg_sys::Datum::from(node))
    }
}

/// The request passed to a support function, if it asks for an expression to replace a call.
///
/// # Safety
/// The argument is what PostgreSQL passed to a support function.
pub unsafe fn simplify_request(request: &Internal) -> Result<Option<&pg_sys::SupportRequestSimplify>, Error> {
    // SAFETY: as promised by the caller: a node, whose tag says what it is.
    unsafe {
        let node = request.get::<pg_sys::Node>().ok_or(Error::Internal("no request"))?;
        let is_simplify = node.type_ == pg_sys::NodeTag::T_SupportRequestSimplify;
        Ok(if is_simplify { request.get() } else { None })
    }
}

/// A result of type `encrypted_text`.
pub struct EncryptedResult(pub Varlena);

/// A result of type `text`, in the server encoding.
pub struct TextResult(pub Varlena);

/// A result of type `bytea`.
pub struct ByteaResult(pub Varlena);

/// A result of type `cstring`, in the server encoding.
pub struct CStringResult {
    pointer: NonNull<u8>,
}

impl CStringResult {
    /// A string of at most `capacity` bytes; `write` fills the buffer and returns the length.
    pub fn write(
        capacity: usize,
        write: impl FnOnce(&mut [u8]) -> Result<usize, Error>,
    ) -> Result<Self, Error> {
        // SAFETY: palloc0 gives `capacity + 1` zeros or raises an error. The slice is dropped before the pointer is used
        // again, and the terminator stays inside the allocation.
        unsafe {
            let pointer = pg_sys::palloc0(capacity + 1).cast::<u8>();
            let length = write(std::slice::from_raw_parts_mut(pointer, capacity))?;
            *pointer.add(length.min(capacity)) = 0;
            let pointer = NonNull::new(pointer).ok_or(Error::OutOfMemory)?;
            Ok(Self { pointer })
        }
    }
}

/// For a column of a returned row.
impl IntoDatum for TextResult {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0.datum())
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }
}

impl<'a> FromDatum for Payload<'a> {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _type: pg_sys::Oid,
    ) -> Option<Self> {
        // SAFETY: the trait promises a varlena if it is not null.
        (!is_null).then(|| unsafe { Self::of(datum) })
    }
}

impl FromDatum for Front<'_> {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _type: pg_sys::Oid,
    ) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the trait promises a varlena.
        Some(unsafe { Self::of(datum) })
    }
}

impl FromDatum for Stored<'_> {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _type: pg_sys::Oid,
    ) -> Option<Self> {
        // SAFETY: the trait promises a varlena if it is not null.
        (!is_null).then(|| Self { datum, front: unsafe { Front::of(datum) } })
    }
}

macro_rules! translatable {
    ($type:ty, $sql:literal) => {
        // SAFETY: only names an SQL type for pgrx's schema generator, which this extension's hand-written scripts don't need.
        unsafe impl SqlTranslatable for $type {
            const TYPE_IDENT: &'static str = concat!("prism_crypt::", stringify!($type));
            const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
            const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal($sql));
            const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
                Ok(ReturnsRef::One(SqlMappingRef::literal($sql)));
        }
    };
}

/// Makes a type usable as an argument: `$make` wraps what `$from` reads, and `$empty` stands in for a null, which a STRICT
/// function never receives.
macro_rules! argument {
    ($type:ident, $sql:literal, $from:ty, $make:expr, $empty:expr) => {
        // SAFETY: pgrx calls this for arguments of the SQL type that the install scripts declare, a varlena.
        unsafe impl<'fcx> ArgAbi<'fcx> for $type<'fcx> {
            unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
                // SAFETY: as promised by the trait.
                let read = unsafe { arg.unbox_arg_using_from_datum::<$from>() };
                read.map_or($empty, $make)
            }
        }
        translatable!($type<'_>, $sql);
    };
}

/// Makes a type usable as a result.
macro_rules! result {
    ($type:ident, $sql:literal, $datum:expr) => {
        // SAFETY: the datum has the SQL type that the install scripts declare: a palloc'd value, or a pointer for `internal`.
        unsafe impl BoxRet for $type {
            unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
                let datum: pg_sys::Datum = $datum(&self);
                // SAFETY: as above.
                unsafe { fcinfo.return_raw_datum(datum) }
            }
        }
        translatable!($type, $sql);
    };
}

argument!(Text, "text", Payload<'fcx>, Self, Self(Payload(&[])));
argument!(Bytea, "bytea", Payload<'fcx>, Self, Self(Payload(&[])));
argument!(Encrypted, "encrypted_text", Payload<'fcx>, Self, Self(Payload(&[])));
argument!(
    Stored,
    "encrypted_text",
    Stored<'fcx>,
    std::convert::identity,
    Self { datum: pg_sys::Datum::null(), front: Front { bytes: &[], length: 0 } }
);
argument!(Front, "encrypted_text", Front<'fcx>, std::convert::identity, Self { bytes: &[], length: 0 });

result!(EncryptedResult, "encrypted_text", |result: &EncryptedResult| result.0.datum());
result!(Node, "internal", |result: &Node| result.0);
result!(TextResult, "text", |result: &TextResult| result.0.datum());
result!(ByteaResult, "bytea", |result: &ByteaResult| result.0.datum());
result!(CStringResult, "cstring", |result: &CStringResult| pg_sys::Datum::from(result.pointer.as_ptr()));
