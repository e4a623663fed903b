//! Making the verifier forget what it knows of a value.
//!
//! The verifier checks what follows once for each thing that it knows of what came before, and the verifiers of older kernels
//! (5.10, 6.1) find fewer of these cases alike than newer ones do. A value of which it knows nothing makes them one.

/// The number, of which nothing is known any more: two loads of the same word cancel out, which neither the compiler nor the
/// verifier can tell. `word` is any memory that is at hand.
#[inline(always)]
pub(crate) fn number(number: u64, word: &u32) -> u64 {
    let word: *const u32 = word;
    // SAFETY: a reference is valid for reading.
    let (first, second) = unsafe { (word.read_volatile(), word.read_volatile()) };
    (number ^ u64::from(first)) ^ u64::from(second)
}
