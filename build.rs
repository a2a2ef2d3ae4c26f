//! Compiles the check of the processor (`src/processor.c`), for the features that the library is compiled with.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;

/// Where a processor of the x86 family says that it has a feature (`CPUID` leaf and subleaf, register, bit), and which registers the
/// operating system must save for it (bits of `XCR0`). Every feature that Rust's stable compilers report.
#[rustfmt::skip]
const X86: &[(&str, [u32; 4], u32)] = &[
    ("sse3", [1, 0, C, 0], 0), ("pclmulqdq", [1, 0, C, 1], 0), ("ssse3", [1, 0, C, 9], 0), ("fma", [1, 0, C, 12], AVX),
    ("cmpxchg16b", [1, 0, C, 13], 0), ("sse4.1", [1, 0, C, 19], 0), ("sse4.2", [1, 0, C, 20], 0), ("movbe", [1, 0, C, 22], 0),
    ("popcnt", [1, 0, C, 23], 0), ("aes", [1, 0, C, 25], 0), ("xsave", [1, 0, C, 27], 0), ("avx", [1, 0, C, 28], AVX),
    ("f16c", [1, 0, C, 29], AVX), ("rdrand", [1, 0, C, 30], 0),
    ("fxsr", [1, 0, D, 24], 0), ("sse", [1, 0, D, 25], 0), ("sse2", [1, 0, D, 26], 0),
    ("bmi1", [7, 0, B, 3], 0), ("avx2", [7, 0, B, 5], AVX), ("bmi2", [7, 0, B, 8], 0), ("rtm", [7, 0, B, 11], 0),
    ("avx512f", [7, 0, B, 16], AVX512), ("avx512dq", [7, 0, B, 17], AVX512), ("rdseed", [7, 0, B, 18], 0), ("adx", [7, 0, B, 19], 0),
    ("avx512ifma", [7, 0, B, 21], AVX512), ("avx512cd", [7, 0, B, 28], AVX512), ("sha", [7, 0, B, 29], 0),
    ("avx512bw", [7, 0, B, 30], AVX512), ("avx512vl", [7, 0, B, 31], AVX512),
    ("avx512vbmi", [7, 0, C, 1], AVX512), ("avx512vbmi2", [7, 0, C, 6], AVX512), ("gfni", [7, 0, C, 8], 0), ("vaes", [7, 0, C, 9], AVX),
    ("vpclmulqdq", [7, 0, C, 10], AVX), ("avx512vnni", [7, 0, C, 11], AVX512), ("avx512bitalg", [7, 0, C, 12], AVX512),
    ("avx512vpopcntdq", [7, 0, C, 14], AVX512), ("kl", [7, 0, C, 23], 0), ("avx512vp2intersect", [7, 0, D, 8], AVX512),
    ("avx512fp16", [7, 0, D, 23], AVX512),
    ("sha512", [7, 1, A, 0], AVX), ("sm3", [7, 1, A, 1], AVX), ("sm4", [7, 1, A, 2], AVX), ("avxvnni", [7, 1, A, 4], AVX),
    ("avx512bf16", [7, 1, A, 5], AVX512), ("avxifma", [7, 1, A, 23], AVX), ("avxvnniint8", [7, 1, D, 4], AVX),
    ("avxneconvert", [7, 1, D, 5], AVX), ("avxvnniint16", [7, 1, D, 10], AVX),
    ("xsaveopt", [0xd, 1, A, 0], 0), ("xsavec", [0xd, 1, A, 1], 0), ("xsaves", [0xd, 1, A, 3], 0), ("widekl", [0x19, 0, B, 2], 0),
    ("lahfsahf", [0x8000_0001, 0, C, 0], 0), ("lzcnt", [0x8000_0001, 0, C, 5], 0), ("sse4a", [0x8000_0001, 0, C, 6], 0),
    ("tbm", [0x8000_0001, 0, C, 21], 0),
];
const A: u32 = 0;
const B: u32 = 1;
const C: u32 = 2;
const D: u32 = 3;
/// `XCR0`: the wide registers, and what AVX-512 adds.
const AVX: u32 = 0x6;
const AVX512: u32 = 0xe6;

/// Where Linux says that an ARM processor has a feature: `AT_HWCAP` (0) or `AT_HWCAP2` (1), and the bit.
#[rustfmt::skip]
const ARM: &[(&str, [u32; 2])] = &[
    ("neon", [0, 1]), ("aes", [0, 3]), ("sha2", [0, 6]), ("crc", [0, 7]), ("lse", [0, 8]), ("fp16", [0, 10]), ("rdm", [0, 12]),
    ("jsconv", [0, 13]), ("fcma", [0, 14]), ("rcpc", [0, 15]), ("dpb", [0, 16]), ("sha3", [0, 17]), ("sm4", [0, 19]), ("dotprod", [0, 20]),
    ("sve", [0, 22]), ("fhm", [0, 23]), ("dit", [0, 24]), ("lse2", [0, 25]), ("rcpc2", [0, 26]), ("flagm", [0, 27]), ("ssbs", [0, 28]),
    ("sb", [0, 29]), ("paca", [0, 30]), ("pacg", [0, 31]), ("dpb2", [1, 0]), ("sve2", [1, 1]), ("sve2-aes", [1, 2]),
    ("sve2-bitperm", [1, 4]), ("sve2-sha3", [1, 5]), ("sve2-sm4", [1, 6]), ("flagm2", [1, 7]), ("frintts", [1, 8]), ("f32mm", [1, 10]),
    ("f64mm", [1, 11]), ("i8mm", [1, 13]), ("bf16", [1, 14]), ("rand", [1, 16]), ("bti", [1, 17]), ("mte", [1, 18]),
];

/// The levels of the x86-64 ABI, each with what it adds to the one before.
#[rustfmt::skip]
const LEVELS: &[(&str, &[&str])] = &[
    ("x86-64", &["fxsr", "sse", "sse2"]),
    ("x86-64-v2", &["cmpxchg16b", "popcnt", "sse3", "sse4.1", "sse4.2", "ssse3"]),
    ("x86-64-v3", &["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"]),
    ("x86-64-v4", &["avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"]),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/processor.c");
    let architecture = env::var("CARGO_CFG_TARGET_ARCH")?;
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let mut features: Vec<_> = features.split(',').filter(|feature| !feature.is_empty()).collect();
    features.sort_unstable();

    let built_for = built_for(&architecture, &features);
    println!("cargo::rustc-env=PRISM_BUILT_FOR={built_for}");
    let mut header = format!("#define BUILT_FOR \"{built_for}\"\n#define FEATURES \\\n");
    for feature in &features {
        match place(&architecture, feature) {
            Some(place) => header += &format!("    {{\"{feature}\", {place}}}, \\\n"),
            None if has_check(&architecture) && !is_always_there(&architecture, feature) => {
                println!("cargo::warning=the library will not check for the processor's feature {feature}");
            }
            None => {}
        }
    }
    header.push('\n');
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("built_for.h"), header)?;

    if has_check(&architecture) {
        // Nothing of what the rest is compiled for.
        let baseline = if architecture == "x86_64" { "-march=x86-64" } else { "-march=armv8-a" };
        cc::Build::new()
            .inherit_rustflags(false)
            .flag_if_supported(baseline)
            .include(&out)
            .file("src/processor.c")
            .try_compile("prism_processor")?;
    }
    Ok(())
}

fn has_check(architecture: &str) -> bool {
    matches!(architecture, "x86_64" | "aarch64")
}

/// The fields of a `struct feature` of `src/processor.c`, after the name.
fn place(architecture: &str, feature: &str) -> Option<String> {
    let fields = match architecture {
        "x86_64" => {
            let (_, [leaf, subleaf, register, bit], state) =
                X86.iter().find(|(name, ..)| *name == feature)?;
            [*leaf, *subleaf, *register, *bit, *state].to_vec()
        }
        "aarch64" => ARM.iter().find(|(name, _)| *name == feature)?.1.to_vec(),
        _ => return None,
    };
    Some(fields.iter().map(u32::to_string).collect::<Vec<_>>().join(", "))
}

/// Versions of the architecture are not features, and are made of features that are named too. User programs see no others.
fn is_always_there(architecture: &str, feature: &str) -> bool {
    architecture == "aarch64"
        && (feature.starts_with('v') || matches!(feature, "pan" | "vh" | "lor" | "ras" | "pmuv3" | "spe"))
}

/// What a processor must have, in words.
fn built_for(architecture: &str, features: &[&str]) -> String {
    let (mut level, mut rest) = (architecture.to_owned(), features.to_vec());
    if architecture == "x86_64" {
        for (name, added) in LEVELS {
            if !added.iter().all(|feature| features.contains(feature)) {
                break;
            }
            level = (*name).to_owned();
            rest.retain(|feature| !added.contains(feature));
        }
    } else {
        rest.retain(|feature| *feature != "neon");
    }
    match rest.as_slice() {
        [] if level == "x86-64" || level == "aarch64" => format!("any {level}"),
        [] => level,
        rest => format!("{level} with {}", rest.join(", ")),
    }
}
