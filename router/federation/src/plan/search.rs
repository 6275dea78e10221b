//! Tries the choices that the planner did not take.
//!
//! The planner's choices are the best as each place sees it; their sum need not
//! be. So each is turned in order, and kept turned if the whole plan gets
//! cheaper: fewer fetches in a row, then fewer fetches, then fewer selections.
//! What is spent on it has a bound in steps, not in time: one graph and one
//! operation have one plan.

use std::collections::HashMap;

use super::PlanError;
use super::planner::{Planned, Task, walk};

/// How many plans are tried, and how many fields they may walk in all.
const TRIALS: usize = 64;
const FIELDS: usize = 20_000;

pub(super) fn best(task: &Task<'_>, budget: usize) -> Result<Planned, PlanError> {
    let mut left = budget;
    let mut decided = HashMap::new();
    let mut best = walk(task, &decided, &mut left)?;
    let size = (budget - left).max(1);
    let mut trials = TRIALS.min(FIELDS / size);
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
                // A choice that leads nowhere is no plan; what was found stands.
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
