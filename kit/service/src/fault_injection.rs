//! Calls that fail at random, to see that nothing is lost: a share of those
//! between services and to the sandbox, chosen by `STOA_FAULT_RATE` in
//! development.

use std::sync::atomic::{AtomicU64, Ordering};

/// Calls in a million that fail.
static RATE: AtomicU64 = AtomicU64::new(0);
static STATE: AtomicU64 = AtomicU64::new(0);
const ALL: u64 = 1_000_000;
pub const REASON: &str = "STOA_FAULT_RATE";

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It is not made.
    Before,
    /// It is made, and its answer is lost.
    After,
}

/// Sets the share of calls that fail, from 0 to 1.
pub fn set_rate(rate: f64) {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped, and of six digits"
    )]
    let rate = (rate.clamp(0.0, 1.0) * ALL as f64) as u64;
    RATE.store(rate, Ordering::Relaxed);
}

fn fault() -> Option<Fault> {
    let rate = RATE.load(Ordering::Relaxed);
    if rate == 0 {
        return None;
    }
    // SplitMix64: even, and cheap.
    let mut mixed = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (mixed % ALL < rate).then_some(match mixed >> 63 {
        0 => Fault::Before,
        _ => Fault::After,
    })
}

/// Makes a call, unless it is to fail.
///
/// # Errors
/// `away` if it fails by chance, else what the call says.
pub async fn call<T, E>(
    work: impl Future<Output = Result<T, E>>,
    away: impl FnOnce() -> E,
) -> Result<T, E> {
    match fault() {
        None => work.await,
        Some(Fault::Before) => Err(away()),
        Some(Fault::After) => {
            let _ = work.await;
            Err(away())
        }
    }
}
