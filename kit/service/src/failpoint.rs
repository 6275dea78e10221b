//! Failpoints: named places where a test aborts the process, as a crash would, or
//! pauses one of several concurrent tasks. Release builds have none.

/// Aborts the process here if `STOA_FAULT` names this failpoint; `name:3` means the
/// third time that it is reached.
pub fn crash_if_chosen(name: &str) {
    #[cfg(debug_assertions)]
    crash_points::reach(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod crash_points {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// The chosen failpoint, and how many more times it must be reached.
    static CHOSEN: OnceLock<Option<(String, AtomicUsize)>> = OnceLock::new();

    pub fn reach(name: &str) {
        let chosen = CHOSEN.get_or_init(|| {
            let text = std::env::var("STOA_FAULT").ok()?;
            let (name, count) = match text.split_once(':') {
                Some((name, count)) => (name.to_owned(), count.parse().unwrap_or(1)),
                None => (text, 1),
            };
            Some((name, AtomicUsize::new(count)))
        });
        if let Some((place, left)) = chosen
            && place == name
            && left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            eprintln!("STOA_FAULT: the process ends at {name}");
            std::process::abort();
        }
    }
}

/// Waits here for as long as a test holds this failpoint for this subject.
pub async fn wait_while_held(name: &str, subject: &str) {
    #[cfg(debug_assertions)]
    gates::wait_at_gate(name, subject).await;
    #[cfg(not(debug_assertions))]
    let _ = (name, subject);
}

#[cfg(debug_assertions)]
pub use gates::{HeldFailpoint, hold};

#[cfg(debug_assertions)]
mod gates {
    use std::sync::{Mutex, PoisonError};

    use tokio::sync::oneshot;

    /// A held failpoint that no task has reached yet.
    struct Gate {
        name: String,
        subject: String,
        reached: oneshot::Sender<()>,
        released: oneshot::Receiver<()>,
    }

    static GATES: Mutex<Vec<Gate>> = Mutex::new(Vec::new());

    /// A failpoint where the first task to reach it waits.
    pub struct HeldFailpoint {
        reached: oneshot::Receiver<()>,
        released: oneshot::Sender<()>,
    }

    /// Holds the first task that reaches this failpoint for this subject.
    pub fn hold(name: &str, subject: &str) -> HeldFailpoint {
        let (reach, reached) = oneshot::channel();
        let (release, released) = oneshot::channel();
        gates().push(Gate {
            name: name.to_owned(),
            subject: subject.to_owned(),
            reached: reach,
            released,
        });
        HeldFailpoint {
            reached,
            released: release,
        }
    }

    impl HeldFailpoint {
        /// Waits until a task is held here.
        pub async fn reached(&mut self) {
            let _ = (&mut self.reached).await;
        }

        /// Lets the held task continue.
        pub fn release(self) {
            let _ = self.released.send(());
        }
    }

    fn gates() -> std::sync::MutexGuard<'static, Vec<Gate>> {
        GATES.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn wait_at_gate(name: &str, subject: &str) {
        let gate = {
            let mut gates = gates();
            let here = |gate: &Gate| gate.name == name && gate.subject == subject;
            let at = gates.iter().position(here);
            at.map(|at| gates.swap_remove(at))
        };
        if let Some(gate) = gate {
            let _ = gate.reached.send(());
            let _ = gate.released.await;
        }
    }
}
