//! Improves a plan by trying the choices that the planner did not make.
//!
//! Each of the planner's choices is the best locally, but together they may not be.
//! So each is changed in turn, and the change is kept if the whole plan gets
//! cheaper: fewer consecutive fetches, then fewer fetches, then fewer selections.
//! The effort is bounded in steps, not in time, so the plan for a graph and an
//! operation is always the same.

use super::PlanError;
use super::planner::{DeadEnds, Planned, Stop, Task, walk};
use apollo_compiler::collections::HashMap;

/// The most plans that are tried.
const MAX_TRIALS: usize = 64;
/// The most fields that they may visit in total.
const MAX_VISITED_FIELDS: usize = 20_000;
/// The most walks that look for a first plan. Each meets all dead ends on its way, so more
/// than two are needed only where avoiding one leads to another.
const MAX_FIRST_WALKS: usize = 32;

pub(super) fn best(task: &Task<'_>, budget: usize) -> Result<Planned, PlanError> {
    let mut decided = HashMap::default();
    let mut dead_ends = DeadEnds::default();
    let (mut best, visited) = first(task, &mut dead_ends, budget)?;
    let size = visited.max(1);
    let mut trials = MAX_TRIALS.min(MAX_VISITED_FIELDS / size);
    'again: loop {
        if best.cost.fetches < 2 {
            return Ok(best);
        }
        for point in &best.choices {
            for other in &point.others {
                if trials == 0 {
                    return Ok(best);
                }
                trials -= 1;
                let before = decided.insert(point.key.clone(), *other);
                // If a choice leads to no plan, the best one so far stays.
                if let Ok(turned) = walk(task, &decided, &dead_ends, &mut budget.clone())
                    && turned.cost < best.cost
                {
                    best = turned;
                    continue 'again;
                }
                match before {
                    Some(before) => decided.insert(point.key.clone(), before),
                    None => decided.remove(&point.key),
                };
            }
        }
        return Ok(best);
    }
}

/// A first plan, and how many fields its walk visited.
fn first(
    task: &Task<'_>,
    dead_ends: &mut DeadEnds,
    budget: usize,
) -> Result<(Planned, usize), PlanError> {
    let mut failed = PlanError::TooLarge;
    for _ in 0..MAX_FIRST_WALKS {
        let mut left = budget;
        match walk(task, &HashMap::default(), dead_ends, &mut left) {
            Ok(planned) => return Ok((planned, budget - left)),
            Err(Stop::DeadEnds(met)) => {
                if !dead_ends.extend(met) {
                    break;
                }
            }
            Err(Stop::Failed(error)) => {
                failed = error;
                break;
            }
        }
    }
    // What was met first says more than what is left without it.
    Err(std::mem::take(dead_ends).into_error().unwrap_or(failed))
}
