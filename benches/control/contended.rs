//! What a request costs at the gate when several threads want it at once: from entering to the end of its flight.

use crate::report::Report;
use std::future::Future as _;
use std::pin::pin;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tidegate::control::{Command, Lanes, LanesSettings, Outcome, Rate, Report as Told, Ticket};
use tidegate::gate::{Gate, Verdict};
use tidegate::observe::NullObserver;

pub(crate) fn run(quick: bool, report: &mut Report) {
    let requests: usize = if quick { 2_000 } else { 200_000 };
    let rounds = if quick { 1 } else { 9 };
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    report.table(
        "A request at the gate, by threads that want it at once",
        &["ns/request, one lane", "ns/request, a lane each", "requests/s, one lane"],
    );
    let mut counts = vec![1, 2, processors, 4 * processors];
    counts.dedup();
    for threads in counts {
        let took = |shared: bool| {
            crate::median((0..rounds).map(|_| nanoseconds(threads, requests / threads, shared)).collect())
        };
        let (one, each) = (took(true), took(false));
        report.row(format!("{threads} threads"), vec![one, each, threads as f64 * 1e9 / one]);
    }
}

/// Nanoseconds that a request takes a thread, with so many of them.
fn nanoseconds(threads: usize, requests: usize, shared: bool) -> f64 {
    let mut settings = LanesSettings::default();
    settings.law.start_rate = Rate::FASTEST;
    let gate = Gate::new(Lanes::new(settings, Instant::now()), Arc::new(NullObserver));
    let barrier = Barrier::new(threads);
    let one = |thread: usize| {
        let key = crate::key(if shared { 0 } else { thread as u64 });
        barrier.wait();
        let begin = Instant::now();
        for _ in 0..requests {
            pass(&gate, &key);
        }
        begin.elapsed().as_nanos() as f64 / requests as f64
    };
    let took: Vec<f64> = std::thread::scope(|scope| {
        let one = &one;
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || one(thread))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    took.iter().sum::<f64>() / took.len() as f64
}

/// One request, from its entering to the end of its flight; nothing paces it.
pub(crate) fn pass(gate: &Gate, key: &tidegate::control::LaneKey) {
    let ticket = Ticket::until(Instant::now() + Duration::from_mins(2));
    let turn = pin!(gate.enter(key, ticket).unwrap().turn());
    let mut turn = turn;
    let mut context = Context::from_waker(Waker::noop());
    let pass = loop {
        // Where several want it, another thread may be about to hand the pass out.
        match turn.as_mut().poll(&mut context) {
            Poll::Ready(granted) => break granted.unwrap(),
            Poll::Pending => {
                std::thread::yield_now();
                // If the others have finished, nobody else hands it out: there is no driver here.
                gate.command("nobody", Command::Resume);
            }
        }
    };
    match pass.settle(Instant::now(), &Told::new(Outcome::Accepted, true)) {
        Verdict::Answer(flight) => drop(flight),
        Verdict::Again(_) => panic!("it was accepted"),
    }
}
