//! Improves a plan by trying the choices that the planner did not make.
//!
//! Each of the planner's choices is the best locally, but together they may not be.
//! So each is changed in turn, and the change is kept if the whole plan gets
//! cheaper: fewer consecutive fetches, then fewer fetches, then fewer selections.
//! The effort is bounded in steps, not in time, so the plan for a graph and an
//! operation is always the same.

use std::collections::HashMap;

use super::PlanError;
use super::planner::{Planned, Task, walk};

/// The most plans that are tried.
const MAX_TRIALS: usize = 64;
/// The most fields that they may visit in total.
const MAX_VISITED_FIELDS: usize = 20_000;

pub(super) fn best(task: &Task<'_>, budget: usize) -> Result<Planned, PlanError> {
    let mut left = budget;
    let mut decided = HashMap::new();
    let mut best = walk(task, &decided, &mut left)?;
    let size = (budget - left).max(1);
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
                if let Ok(turned) = walk(task, &decided, &mut budget.clone())
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
