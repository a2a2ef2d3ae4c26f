//! Whether the processor has what the library was compiled for.
//!
//! A library that is made for one machine may use any instruction of its processor anywhere, also in the code that looks for them. So
//! PostgreSQL's first call, `_PG_init`, is a jump to a function in C that is compiled for the oldest processor of the
//! architecture (`processor.c`, `build.rs`). It refuses to load the library, or goes on with `prism_crypt_init`.
//! Before that, PostgreSQL only asks for the address of the magic block.

use pgrx::PgLogLevel;

/// What a processor must have to run this library, in words.
pub const BUILT_FOR: &str = env!("PRISM_BUILT_FOR");

// As the C code has it.
const _: () = assert!(PgLogLevel::ERROR as i32 == 21);

/// Declares `_PG_init`.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! checked_init {
    () => {
        unsafe extern "C-unwind" {
            fn prism_crypt_check_processor();
        }

        /// Runs once, when PostgreSQL loads the library.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub extern "C-unwind" fn _PG_init() {
            #[cfg(target_arch = "x86_64")]
            std::arch::naked_asm!("jmp {check}", check = sym prism_crypt_check_processor);
            #[cfg(target_arch = "aarch64")]
            std::arch::naked_asm!("b {check}", check = sym prism_crypt_check_processor);
        }
    };
}

/// Declares `_PG_init`, for processors that nothing is known about.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
macro_rules! checked_init {
    () => {
        /// Runs once, when PostgreSQL loads the library.
        #[unsafe(no_mangle)]
        pub extern "C-unwind" fn _PG_init() {
            prism_crypt_init();
        }
    };
}
pub(crate) use checked_init;
