//! Prints the cost of a bare cipher call as JSON: nanoseconds for each plaintext length in bytes. Each call has one allocation
//! and 7 bytes of associated data, which any use of the cipher pays. `make bench` compares the extension with it.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use std::hint::black_box;
use std::time::Instant;

const LENGTHS: [usize; 4] = [20, 1 << 10, 1 << 16, 1 << 20];
/// Rounds are many and short, so that some of them are disturbed by nothing else on the machine.
const ROUNDS: usize = 1_000;
const BYTES_A_ROUND: usize = 1 << 18;

fn main() -> Result<(), aes_gcm::Error> {
    let cipher = Aes256Gcm::new(&[7; 32].into());
    let nonce = [9; 12].into();
    let (mut seal, mut open) = (Vec::new(), Vec::new());
    for length in LENGTHS {
        let plaintext = vec![b'x'; length];
        let payload = Payload { msg: &plaintext, aad: b"1234567" };
        let sealed = cipher.encrypt(&nonce, payload)?;
        let calls = (BYTES_A_ROUND / length).clamp(1, 1_000);
        seal.push(fastest(calls, || {
            cipher.encrypt(black_box(&nonce), Payload { msg: &plaintext, aad: b"1234567" })
        })?);
        open.push(fastest(calls, || {
            cipher.decrypt(black_box(&nonce), Payload { msg: &sealed, aad: b"1234567" })
        })?);
    }
    println!("{{\"seal\": {}, \"open\": {}}}", object(&seal), object(&open));
    Ok(())
}

/// The fastest of several rounds, in nanoseconds per call: what the machine can do when nothing else disturbs it.
fn fastest<T>(calls: usize, call: impl Fn() -> Result<T, aes_gcm::Error>) -> Result<f64, aes_gcm::Error> {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for _ in 0..calls {
            black_box(call()?);
        }
        best = best.min(started.elapsed().as_nanos() as f64 / calls as f64);
    }
    Ok(best)
}

fn object(nanoseconds: &[f64]) -> String {
    let members: Vec<_> =
        LENGTHS.iter().zip(nanoseconds).map(|(length, ns)| format!("\"{length}\": {ns:.1}")).collect();
    format!("{{{}}}", members.join(", "))
}
