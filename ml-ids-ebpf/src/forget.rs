//! Making the verifier forget what it knows of a value.
//!
//! The verifier follows every way through the program on which it knows something else, and knows a lot: on which of a
//! hundred ways the engine came to its plan, for one. What comes after is then checked a hundred times. A value of which it
//! knows nothing makes them one way.

use ml_ids_common::Plan;

/// The plan, of which nothing is known any more. `word` may be any readable memory.
#[inline(always)]
pub(crate) fn plan(plan: Plan, word: &u64) -> Plan {
    unpacked(number(packed(plan), word))
}

/// The number, of which nothing is known any more: two loads of the same word cancel out, which neither the compiler nor the
/// verifier can know.
#[inline(always)]
pub(crate) fn number(number: u64, word: &u64) -> u64 {
    let word: *const u64 = word;
    // SAFETY: a reference is valid for reading.
    let (first, second) = unsafe { (word.read_volatile(), word.read_volatile()) };
    (number ^ first) ^ second
}

#[inline(always)]
fn packed(plan: Plan) -> u64 {
    let bits = |source_is_b: bool, forward: bool| u64::from(source_is_b) << 3 | u64::from(forward) << 4;
    match plan {
        Plan::Late => 0,
        Plan::Add => 1,
        Plan::AddAndEnd => 2,
        Plan::Open { source_is_b } => 3 | bits(source_is_b, false),
        Plan::EndAndOpen { source_is_b, forward } => 4 | bits(source_is_b, forward),
        Plan::Reopen { source_is_b, forward } => 5 | bits(source_is_b, forward),
    }
}

#[inline(always)]
fn unpacked(bits: u64) -> Plan {
    let (source_is_b, forward) = (bits & 1 << 3 != 0, bits & 1 << 4 != 0);
    match bits & 7 {
        1 => Plan::Add,
        2 => Plan::AddAndEnd,
        3 => Plan::Open { source_is_b },
        4 => Plan::EndAndOpen { source_is_b, forward },
        5 => Plan::Reopen { source_is_b, forward },
        _ => Plan::Late,
    }
}
