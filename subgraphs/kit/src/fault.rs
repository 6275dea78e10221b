//! Named places at which a test ends the process, as a crash would: between any
//! two lines that matter. Builds for release have none.

/// Ends the process here if `STOA_FAULT` names this place; `name:3` means the
/// third time that it is passed.
pub fn point(name: &str) {
    #[cfg(debug_assertions)]
    points::pass(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod points {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// The place, and how often it is still to be passed.
    static CHOSEN: OnceLock<Option<(String, AtomicUsize)>> = OnceLock::new();

    pub fn pass(name: &str) {
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
