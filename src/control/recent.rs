//! What happened last: queues of which only so much is kept.

use std::collections::VecDeque;

/// Puts `item` behind the others, of which at most `max` are kept with it.
pub(super) fn push_bounded<T>(to: &mut VecDeque<T>, item: T, max: usize) {
    while to.len() >= max {
        to.pop_front();
    }
    to.push_back(item);
}

/// Puts a moment in its place among others in order.
pub(super) fn insert_sorted(to: &mut VecDeque<f64>, moment: f64) {
    // Nearly always it is the last: looking for its place walks through memory that nothing else has touched.
    if to.back().is_none_or(|last| *last <= moment) {
        to.push_back(moment);
    } else {
        to.insert(to.partition_point(|earlier| *earlier <= moment), moment);
    }
}
