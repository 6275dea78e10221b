//! Dead letters: events that a consumer could not handle.

use stoa_service::bus::{self, Bus, DeadLetter};

use crate::Error;
use crate::output::line;
use crate::services;
use crate::settings::Settings;

/// The maximum number that one call lists or replays.
const LIMIT: u64 = 1_000;

/// Prints the dead letters, the oldest first.
///
/// # Errors
/// If the bus cannot be read.
pub async fn list_dead_letters(settings: &Settings) -> Result<(), Error> {
    let (_, letters) = letters(settings).await?;
    if letters.is_empty() {
        line("no dead letters");
        return Ok(());
    }
    line(format_args!(
        "{:>8}  {:<22}  {:>10}  SUBJECT",
        "ID", "CONSUMER", "SEQUENCE"
    ));
    for (id, letter) in &letters {
        line(format_args!(
            "{id:>8}  {:<22}  {:>10}  {}\n          {}",
            letter.consumer, letter.sequence, letter.subject, letter.error
        ));
    }
    line("\nReplay one to its consumer: stoa events replay ID (or --all)");
    Ok(())
}

/// Replays dead letters to their consumers: one, or all.
///
/// # Errors
/// If there is no such letter, or the bus fails.
pub async fn replay(settings: &Settings, id: Option<u64>) -> Result<(), Error> {
    let (bus, letters) = letters(settings).await?;
    let chosen: Vec<_> = letters
        .iter()
        .filter(|(known, _)| id.is_none_or(|id| id == *known))
        .collect();
    if let (Some(id), true) = (id, chosen.is_empty()) {
        return Err(Error::failed(
            format!("there is no dead letter {id}"),
            "`stoa events dead` lists them",
        ));
    }
    for (id, letter) in chosen {
        bus::replay(&*bus, *id, letter)
            .await
            .map_err(|error| Error::failed(format!("cannot replay {id}"), error))?;
        line(format_args!("{id}: given to {} again", letter.consumer));
    }
    Ok(())
}

type Letters = Vec<(u64, DeadLetter)>;

async fn letters(settings: &Settings) -> Result<(std::sync::Arc<dyn Bus>, Letters), Error> {
    let bus = services::existing_bus(settings).await?;
    let letters = bus
        .dead_letters(LIMIT)
        .await
        .map_err(|error| Error::failed("cannot read the dead letters", error))?;
    Ok((bus, letters))
}
