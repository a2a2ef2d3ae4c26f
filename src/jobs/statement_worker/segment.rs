//! The shared memory of a session and its worker: what is to be run, as whom, and how it ended.
//!
//! The session writes the task before there is a worker, and reads the outcome once the worker has ended. So no part is ever written
//! by one and read by the other at the same time.

use crate::error::{Error, postgres_string};
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char};
use std::ptr::{self, NonNull};

/// What a worker is to do.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Task {
    pub database: pg_sys::Oid,
    /// The role that the session connected as, the one it is now (SET SESSION AUTHORIZATION), and the one of SET ROLE.
    pub authenticated: pg_sys::Oid,
    pub session: pg_sys::Oid,
    pub current: pg_sys::Oid,
    /// The process of the session.
    pub process: i32,
}

/// Name and value of a setting.
pub type Setting = (&'static CStr, CString);

/// How a statement ended.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum Ending {
    /// Not at all: the worker was ended before.
    None,
    Done,
    Failed,
}

/// The longest text of an error that is kept, in bytes.
const LONGEST: usize = 2000;

/// A text in the server encoding, cut at a character's boundary.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Text {
    is_there: bool,
    length: u32,
    bytes: [u8; LONGEST],
}

impl Text {
    const NONE: Self = Self { is_there: false, length: 0, bytes: [0; LONGEST] };

    /// A copy of a text; null gives none.
    ///
    /// # Safety
    /// `text` is null or a terminated string in the server encoding.
    pub unsafe fn of(text: *const c_char) -> Self {
        let mut copy = Self::NONE;
        if text.is_null() {
            return copy;
        }
        // SAFETY: as promised by the caller; it looks at no more bytes than there are.
        let length = unsafe {
            let bytes = CStr::from_ptr(text).count_bytes();
            let fitting =
                pg_sys::pg_mbcliplen(text, i32::try_from(bytes).unwrap_or(i32::MAX), LONGEST as i32);
            usize::try_from(fitting).unwrap_or(0).min(bytes).min(LONGEST)
        };
        // SAFETY: both have that many bytes, and the copy is nobody else's.
        unsafe { ptr::copy_nonoverlapping(text.cast::<u8>(), copy.bytes.as_mut_ptr(), length) };
        copy.is_there = true;
        copy.length = length as u32;
        copy
    }

    /// The text, if there is one.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.is_there.then(|| self.bytes.get(..self.length as usize).unwrap_or_default())
    }
}

/// How it ended, and the error if it failed.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Outcome {
    pub ending: Ending,
    /// In PostgreSQL's packed form.
    pub code: i32,
    pub message: Text,
    pub detail: Text,
    pub hint: Text,
}

impl Outcome {
    /// Of this ending, without an error.
    pub const fn of(ending: Ending) -> Self {
        Self { ending, code: 0, message: Text::NONE, detail: Text::NONE, hint: Text::NONE }
    }

    /// Failed, with an error of our own.
    pub fn failed(error: &Error) -> Self {
        // SAFETY: null, or a copy that is terminated.
        let text =
            |text: Option<&str>| unsafe { Text::of(text.map_or(ptr::null(), |text| postgres_string(text))) };
        Self {
            ending: Ending::Failed,
            code: error.code() as i32,
            message: text(Some(&error.to_string())),
            detail: text(error.detail().as_deref()),
            hint: text(error.hint()),
        }
    }
}

#[repr(C)]
struct Contents {
    task: Task,
    outcome: Outcome,
    /// How many bytes follow: the statement, then names and values of settings, each terminated.
    texts: usize,
}

/// A mapped segment.
#[derive(Clone, Copy)]
pub struct Segment {
    mapping: NonNull<pg_sys::dsm_segment>,
    contents: NonNull<Contents>,
}

impl Segment {
    /// A new segment, mapped until the end of the statement.
    pub fn create(task: Task, statement: &CStr, settings: &[Setting]) -> Result<Self, Error> {
        let texts = || {
            let settings = settings.iter().flat_map(|(name, value)| [*name, value.as_c_str()]);
            std::iter::once(statement).chain(settings).map(CStr::to_bytes_with_nul)
        };
        let length = texts().map(<[u8]>::len).sum();
        // SAFETY: the segment is new, large enough and aligned to pages, and nobody else knows of it yet.
        unsafe {
            let segment = Self::of(pg_sys::dsm_create(size_of::<Contents>() + length, 0))
                .ok_or(Error::Internal("no shared memory"))?;
            let contents = segment.contents.as_ptr();
            contents.write(Contents { task, outcome: Outcome::of(Ending::None), texts: length });
            let mut end = contents.add(1).cast::<u8>();
            for text in texts() {
                ptr::copy_nonoverlapping(text.as_ptr(), end, text.len());
                end = end.add(text.len());
            }
            Ok(segment)
        }
    }

    /// The segment of a handle, if its session still has it. Without a resource owner, it is mapped until the end of the process.
    ///
    /// # Safety
    /// The handle is one that [`handle`](Self::handle) gave.
    pub unsafe fn attach(handle: pg_sys::dsm_handle) -> Option<Self> {
        // SAFETY: as promised by the caller.
        unsafe { Self::of(pg_sys::dsm_attach(handle)) }
    }

    /// # Safety
    /// `mapping` is null or a segment that begins with `Contents`, or will.
    unsafe fn of(mapping: *mut pg_sys::dsm_segment) -> Option<Self> {
        let mapping = NonNull::new(mapping)?;
        // SAFETY: as promised by the caller.
        let contents = NonNull::new(unsafe { pg_sys::dsm_segment_address(mapping.as_ptr()) }.cast())?;
        Some(Self { mapping, contents })
    }

    /// What a worker attaches it by.
    pub fn handle(self) -> pg_sys::dsm_handle {
        // SAFETY: a mapped segment.
        unsafe { pg_sys::dsm_segment_handle(self.mapping.as_ptr()) }
    }

    /// Keeps it mapped until [`detach`](Self::detach) or the end of the session.
    pub fn keep(self) {
        // SAFETY: a mapped segment.
        unsafe { pg_sys::dsm_pin_mapping(self.mapping.as_ptr()) }
    }

    /// Ends its mapping.
    ///
    /// # Safety
    /// Nothing refers to it any more.
    pub unsafe fn detach(self) {
        // SAFETY: as promised by the caller.
        unsafe { pg_sys::dsm_detach(self.mapping.as_ptr()) }
    }

    /// What is to be done.
    pub fn task(self) -> Task {
        // SAFETY: written before anybody else could know of the segment.
        unsafe { (*self.contents.as_ptr()).task }
    }

    /// The statement, terminated. It lives as long as the mapping.
    pub fn statement(self) -> *const c_char {
        // SAFETY: follows the contents.
        unsafe { self.contents.as_ptr().add(1).cast() }
    }

    /// Name and value of the setting at `index`, terminated, if there are so many. Holds nothing.
    pub fn setting(self, index: usize) -> Option<(*const c_char, *const c_char)> {
        // SAFETY: the texts follow the contents, and were written before anybody else could know of the segment.
        let texts = unsafe {
            std::slice::from_raw_parts(self.statement().cast::<u8>(), (*self.contents.as_ptr()).texts)
        };
        let mut texts = texts.split_inclusive(|byte| *byte == 0).skip(1 + 2 * index);
        Some((texts.next()?.as_ptr().cast(), texts.next()?.as_ptr().cast()))
    }

    /// Writes the outcome.
    ///
    /// # Safety
    /// This process is the worker.
    pub unsafe fn end(self, outcome: &Outcome) {
        // SAFETY: the session reads it only once this process has ended.
        unsafe { (&raw mut (*self.contents.as_ptr()).outcome).write(*outcome) }
    }

    /// The outcome.
    ///
    /// # Safety
    /// The worker has ended.
    pub unsafe fn outcome(self) -> Outcome {
        // SAFETY: nobody writes it any more. Its ending was initialized, and is one of the three.
        unsafe { (&raw const (*self.contents.as_ptr()).outcome).read() }
    }
}
