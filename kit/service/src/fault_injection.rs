//! Random fault injection, to test that nothing is lost: in development,
//! `STOA_FAULT_RATE` makes a share of the calls between services and to the payment
//! sandbox fail.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many calls in a million fail.
static RATE: AtomicU64 = AtomicU64::new(0);
const PER_MILLION: u64 = 1_000_000;
pub const REASON: &str = "STOA_FAULT_RATE";

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InjectedFault {
    /// The call is not made.
    Before,
    /// The call is made, and its response is lost.
    After,
}

/// Sets the share of calls that fail, from 0 to 1.
pub fn set_rate(rate: f64) {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped, and of six digits"
    )]
    let rate = (rate.clamp(0.0, 1.0) * PER_MILLION as f64) as u64;
    RATE.store(rate, Ordering::Relaxed);
}

fn next_fault() -> Option<InjectedFault> {
    let rate = RATE.load(Ordering::Relaxed);
    if rate == 0 || fastrand::u64(..PER_MILLION) >= rate {
        return None;
    }
    Some(match fastrand::bool() {
        true => InjectedFault::Before,
        false => InjectedFault::After,
    })
}

/// Makes a call, unless a fault is injected.
///
/// # Errors
/// The error of `unavailable_error` if a fault is injected, else the call's own.
pub async fn call_with_faults<T, E>(
    work: impl Future<Output = Result<T, E>>,
    unavailable_error: impl FnOnce() -> E,
) -> Result<T, E> {
    match next_fault() {
        None => work.await,
        Some(InjectedFault::Before) => Err(unavailable_error()),
        Some(InjectedFault::After) => {
            let _ = work.await;
            Err(unavailable_error())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // One test: the rate is the process's.
    #[tokio::test]
    async fn a_rate_of_0_fails_no_call_and_a_rate_of_1_every_call() {
        let made = AtomicU64::new(0);
        let call = async || {
            let work = async {
                made.fetch_add(1, Ordering::SeqCst);
                Ok(())
            };
            call_with_faults(work, || "unavailable").await
        };
        for rate in [0.0, -1.0] {
            set_rate(rate);
            for _ in 0..100 {
                assert_eq!(call().await, Ok(()), "{rate}");
            }
        }
        assert_eq!(made.swap(0, Ordering::SeqCst), 200);
        for rate in [1.0, 2.0] {
            set_rate(rate);
            for _ in 0..100 {
                assert_eq!(call().await, Err("unavailable"), "{rate}");
            }
        }
        set_rate(0.0);
        // Some are not made, of some the response is lost.
        let made = made.load(Ordering::SeqCst);
        assert!((1..200).contains(&made), "{made} of 200");
    }
}
