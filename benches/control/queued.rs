//! What a request that waits costs in memory: in the core, and at the gate with whoever waits for its pass.

use crate::report::Report;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::control::{Lanes, LanesSettings, LawName, Rate, Ticket};
use tidegate::gate::Gate;
use tidegate::observe::NullObserver;

pub(crate) fn run(quick: bool, report: &mut Report) {
    let count: usize = if quick { 1_000 } else { 200_000 };
    report.table("Memory of a request that waits, by what the process grew", &["bytes"]);
    let ticket = Ticket::until(Instant::now() + Duration::from_hours(1_000_000));
    // Warm: what the allocator keeps for itself is not counted.
    for warm in [true, false] {
        let before = resident_bytes();
        let mut lanes = Lanes::new(settings(count), Instant::now());
        for _ in 0..count {
            lanes.submit(Instant::now(), &crate::key(1), ticket).unwrap();
            while lanes.next_event().is_some() {}
        }
        let in_core = (resident_bytes() - before) / count as f64;
        drop(lanes);
        if !warm {
            report.row("in the core".to_owned(), vec![in_core]);
        }
        if quick || !warm {
            continue;
        }
        let before = resident_bytes();
        let gate = Gate::new(Lanes::new(settings(count), Instant::now()), Arc::new(NullObserver));
        let waiting: Vec<_> = (0..count).map(|_| gate.enter(&crate::key(1), ticket).unwrap()).collect();
        report.row("at the gate".to_owned(), vec![(resident_bytes() - before) / count as f64]);
        // Leaving one by one takes its time, and is not what is measured.
        std::mem::forget((gate, waiting));
    }
}

/// One lane that lets nobody go.
fn settings(count: usize) -> LanesSettings {
    let mut settings = LanesSettings::default();
    settings.law.name = LawName::Fixed;
    settings.law.fixed_rate = Rate::new(1e-3);
    settings.queue.lane_tickets_max = count + 1;
    settings
}

/// What the process has in memory.
fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: f64 =
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN);
    kibibytes * 1024.0
}
