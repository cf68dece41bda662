//! Where log lines go: a bounded queue and one thread that writes, so that a full disk or a stopped reader of
//! stderr costs lines and never a request.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;

/// Hands lines to the writing thread; cheap to clone, never waits.
#[derive(Clone, Debug)]
pub(super) struct Sink {
    lines: SyncSender<Item>,
}

/// Writes what is still queued when it is dropped, for half a second at most.
#[derive(Debug)]
#[must_use = "dropping it writes what is queued: keep it until the program ends"]
pub struct Flush {
    lines: SyncSender<Item>,
}

/// Log lines that found the queue full.
pub(super) fn dropped_total() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Starts the thread that writes to `to`.
pub(super) fn start(to: impl Write + Send + 'static) -> io::Result<(Sink, Flush)> {
    let (lines, queued) = sync_channel(LINES_MAX);
    std::thread::Builder::new().name("log".into()).spawn(move || write_all(&queued, to))?;
    Ok((Sink { lines: lines.clone() }, Flush { lines }))
}

#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    /// Everything before it has been written when the answer comes.
    Flush(SyncSender<()>),
}

fn write_all(queued: &Receiver<Item>, mut to: impl Write) {
    for item in queued {
        match item {
            Item::Line(line) => {
                if to.write_all(&line).and_then(|()| to.flush()).is_err() {
                    DROPPED.fetch_add(1, Ordering::Relaxed);
                }
            }
            // The one who asked may have stopped waiting.
            Item::Flush(done) => drop(done.send(())),
        }
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let (done, written) = sync_channel(1);
        if self.lines.try_send(Item::Flush(done)).is_ok() {
            // A stopped reader must not keep the program from ending: the answer may stay away.
            written.recv_timeout(FLUSH_MAX).ok();
        }
    }
}

/// Collects one line and queues it when dropped.
#[derive(Debug)]
pub(super) struct Line {
    text: Vec<u8>,
    lines: SyncSender<Item>,
}

impl Write for Line {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = std::mem::take(&mut self.text);
        if !text.is_empty() && self.lines.try_send(Item::Line(text)).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { text: Vec::new(), lines: self.lines.clone() }
    }
}

/// Lines that may wait to be written.
const LINES_MAX: usize = 8_192;
/// The longest wait for the last lines.
const FLUSH_MAX: Duration = Duration::from_millis(500);
/// One log per process, as the subscriber itself is.
static DROPPED: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, part: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(part);
            Ok(part.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_queued_is_written_before_the_end() {
        let memory = Memory::default();
        let (sink, flush) = start(memory.clone()).unwrap();
        for n in 0..100 {
            writeln!(sink.make_writer(), "line {n}").unwrap();
        }
        drop(flush);
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 100);
        assert!(text.ends_with("line 99\n"));
    }

    #[test]
    fn a_stopped_reader_costs_lines_and_no_time() {
        struct Stopped(Receiver<()>);
        impl Write for Stopped {
            fn write(&mut self, part: &[u8]) -> io::Result<usize> {
                self.0.recv().ok();
                Ok(part.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (resume, stopped) = sync_channel(1);
        let (sink, flush) = start(Stopped(stopped)).unwrap();
        let before = dropped_total();
        for n in 0..LINES_MAX + 100 {
            writeln!(sink.make_writer(), "line {n}").unwrap();
        }
        assert!(dropped_total() > before, "a full queue drops lines");
        drop(resume);
        drop(flush);
    }
}
