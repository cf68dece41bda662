//! The state file: what lanes learnt, kept across restarts as a start for the next run, not as truth.
//!
//! `limits.json` in the state directory, by upstream and route: no credentials. It is replaced as a whole, so a reader
//! finds the old one or the new one; one that cannot be used is a warning, and lanes then start anew. Programs that
//! share a directory write one after the other (a lock on `limits.lock`, which ends with the program that holds it), and leave
//! entries alone that are not theirs: of other upstreams, and of routes that they never had.

use super::state::{private_directory, private_file};
use crate::control::{Level, LimitModel, LimitSource, Memory, MemoryNumber, Rate};
use humantime::{format_rfc3339_seconds, parse_rfc3339};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The state file of one program.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    /// Entries are dropped that nobody used for longer than this.
    keep: Duration,
    /// How many entries it may have.
    entries_max: usize,
    /// The upstreams whose entries are ours.
    own: HashSet<Arc<str>>,
    /// One writer at a time.
    written: Mutex<Written>,
}

/// What is known of our part of the file.
#[derive(Debug, Default)]
struct Written {
    entries: Vec<Entry>,
    /// The last try failed, and that was told.
    failed: bool,
}

/// The whole file.
#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    version: u64,
    limits: Vec<Entry>,
}

/// What is read first: the rest may look different in another version.
#[derive(Debug, Deserialize)]
struct Head {
    version: u64,
}

/// One route's limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    upstream: String,
    route: String,
    /// Of a limit above routes, whom it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    per: Option<String>,
    /// When the route was last used, to the hour.
    used_at: Moment,
    pace_rps: f64,
    /// Nothing was refused at that pace.
    #[serde(default, skip_serializing_if = "is_false")]
    unmet: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    budget: Option<Budget>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Number {
    requests: f64,
    window_seconds: f64,
    model: String,
    source: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    requests: u32,
    window_seconds: f64,
}

/// A date in RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Moment(SystemTime);

/// Why a file cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it cannot be read ({0}): let this user read it, or choose another place with --state-dir DIR")]
    Unreadable(io::Error),
    #[error("it is damaged ({0}): it will be replaced; if this comes again, see who else writes there")]
    Damaged(String),
    #[error(
        "another version of tidegate wrote it (format {0}, this one reads {VERSION}): it will be replaced; two versions \
         side by side need a --state-dir each"
    )]
    Foreign(u64),
}

impl StateFile {
    /// The file in `directory`, for `own` upstreams.
    pub(super) fn new(directory: &Path, keep: Duration, entries_max: usize, own: HashSet<Arc<str>>) -> Self {
        let path = directory.join(FILE);
        Self { path, keep, entries_max, own, written: Mutex::default() }
    }

    /// What an earlier run learnt of our upstreams. A file that cannot be used is a warning.
    pub(super) fn recall(&self) -> Vec<Memory> {
        let now = wall_now();
        let entries = read(&self.path).unwrap_or_else(|unusable| {
            let file = self.path.display();
            tracing::warn!(%file, "what was learnt before is lost, lanes start anew: {unusable}");
            Vec::new()
        });
        let ours = entries.into_iter().filter(|entry| self.own.contains(entry.upstream.as_str()));
        let ours: Vec<Entry> = ours.filter(|entry| entry.age(now) <= self.keep).collect();
        // What means no limit is left out.
        let memories = ours.iter().filter_map(|entry| entry.memory(now)).collect();
        self.written.lock().unwrap_or_else(PoisonError::into_inner).entries = ours;
        memories
    }

    /// Writes what the next run can start from, if it is not what the file says already. Blocks while it writes.
    pub(super) fn save(&self, memories: &[Memory]) {
        let now = wall_now();
        let entries: Vec<Entry> = memories.iter().map(|memory| Entry::of(memory, now)).collect();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.entries == entries {
            return;
        }
        let file = self.path.display();
        match self.replace(&entries, &written.entries, now) {
            Ok(()) => {
                tracing::debug!(%file, limits = entries.len(), "wrote what was learnt");
                *written = Written { entries, failed: false };
            }
            Err(error) if written.failed => tracing::debug!(%file, %error, "what was learnt is not kept"),
            Err(error) => {
                written.failed = true;
                tracing::warn!(
                    %file,
                    "what was learnt is not kept, and lost at a restart: {error}; let this user write there, or choose \
                     another place with --state-dir DIR"
                );
            }
        }
    }

    /// Our entries, which were `before`, and those of others, as one new file.
    fn replace(&self, ours: &[Entry], before: &[Entry], now: SystemTime) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or_else(|| Path::new("."));
        private_directory(directory)?;
        // Until it is closed.
        let _locked = lock(&directory.join(LOCK))?;
        let is_ours = |entry: &Entry| {
            let has = |entries: &[Entry]| entries.iter().any(|known| known.is_of_same(entry));
            self.own.contains(entry.upstream.as_str()) && (has(ours) || has(before))
        };
        // One that cannot be used has nothing to keep.
        let others = read(&self.path).unwrap_or_default().into_iter();
        let others = others.filter(|entry| !is_ours(entry) && entry.age(now) <= self.keep);
        let limits = ours.iter().cloned().chain(others).take(self.entries_max).collect();
        let mut text = serde_json::to_string_pretty(&Contents { version: VERSION, limits })?;
        text.push('\n');
        write_whole(&self.path, text.as_bytes())
    }
}

impl Entry {
    fn of(memory: &Memory, now: SystemTime) -> Self {
        let number = memory.number.map(|number| Number {
            requests: number.requests,
            window_seconds: number.window_seconds,
            model: number.model.as_str().to_owned(),
            source: number.source.as_str().to_owned(),
        });
        let age = Duration::try_from_secs_f64(memory.age_seconds).unwrap_or_default();
        Self {
            upstream: memory.upstream.as_ref().into(),
            route: memory.route.as_ref().into(),
            per: (memory.per != Level::Route).then(|| memory.per.as_str().to_owned()),
            used_at: Moment::to_the_hour(now.checked_sub(age).unwrap_or(UNIX_EPOCH)),
            pace_rps: memory.pace.get(),
            unmet: memory.is_unmet,
            number,
            budget: memory.budget.map(|(requests, window_seconds)| Budget { requests, window_seconds }),
        }
    }

    /// `None` for words and numbers that mean no limit.
    fn memory(&self, now: SystemTime) -> Option<Memory> {
        let number = match &self.number {
            None => None,
            Some(number) => Some(MemoryNumber {
                requests: number.requests,
                window_seconds: number.window_seconds,
                model: MODELS.into_iter().find(|model| model.as_str() == number.model)?,
                source: SOURCES.into_iter().find(|source| source.as_str() == number.source)?,
            }),
        };
        let per = match &self.per {
            None => Level::Route,
            Some(word) => LEVELS.into_iter().find(|level| level.as_str() == word)?,
        };
        Some(Memory {
            upstream: self.upstream.as_str().into(),
            route: self.route.as_str().into(),
            per,
            age_seconds: self.age(now).as_secs_f64(),
            pace: Some(self.pace_rps).filter(|pace| *pace > 0.0).map(Rate::new)?,
            is_unmet: self.unmet,
            number,
            budget: self.budget.as_ref().map(|budget| (budget.requests, budget.window_seconds)),
        })
    }

    fn is_of_same(&self, other: &Self) -> bool {
        (&self.upstream, &self.route, &self.per) == (&other.upstream, &other.route, &other.per)
    }

    /// A date in the future is a clock that was set: no age.
    fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.used_at.0).unwrap_or_default()
    }
}

impl Moment {
    /// The hour nearest to `at`: an entry that is only used is written once an hour.
    fn to_the_hour(at: SystemTime) -> Self {
        let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self(UNIX_EPOCH + Duration::from_secs((seconds + HOUR / 2) / HOUR * HOUR))
    }
}

impl TryFrom<String> for Moment {
    type Error = humantime::TimestampError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        parse_rfc3339(&text).map(Self)
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        format_rfc3339_seconds(moment.0).to_string()
    }
}

/// The entries of the file at `path`; none where there is no file.
fn read(path: &Path) -> Result<Vec<Entry>, Unusable> {
    let mut bytes = Vec::new();
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.map_err(Unusable::Unreadable)?,
    };
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(Unusable::Unreadable)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(Unusable::Damaged(format!("it has more than {BYTES_MAX} bytes")));
    }
    let damaged = |error: serde_json::Error| Unusable::Damaged(error.to_string());
    let head: Head = serde_json::from_slice(&bytes).map_err(damaged)?;
    if head.version != VERSION {
        return Err(Unusable::Foreign(head.version));
    }
    let contents: Contents = serde_json::from_slice(&bytes).map_err(damaged)?;
    Ok(contents.limits)
}

/// Waits for the lock on the file at `path`, if another program has it; not for long. A file system that knows no locks has
/// none.
#[expect(clippy::disallowed_methods, reason = "whoever saves is on a thread that may block")]
fn lock(path: &Path) -> io::Result<File> {
    let file = match private_file(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            OpenOptions::new().write(true).open(path)?
        }
        made => made?,
    };
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => {
                tracing::debug!(file = %path.display(), %error, "no lock: another program may write at the same time");
                return Ok(file);
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
        }
    }
    let held =
        format!("another program has held {} for long: see who shares this state directory", path.display());
    Err(io::Error::new(ErrorKind::WouldBlock, held))
}

/// Puts `bytes` in the place of `path`: whoever reads it, and whatever ends us, finds the old file or the new one.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let draft = path.with_extension(format!("json.{}", std::process::id()));
    // What a program of our number left behind when it was killed.
    if let Err(error) = fs::remove_file(&draft)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    let moved = private_file(&draft)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&draft, path));
    if moved.is_err() {
        // The first error says more than one of this would.
        fs::remove_file(&draft).ok();
    }
    moved?;
    // The new name, too, is there after a power cut.
    File::open(directory)?.sync_all()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's way to ask")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(clippy::disallowed_methods, reason = "a memory's age spans restarts, which no other clock does")]
fn wall_now() -> SystemTime {
    SystemTime::now()
}

const FILE: &str = "limits.json";
const LOCK: &str = "limits.lock";
/// Two seconds: writing takes some milliseconds.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
const VERSION: u64 = 1;
/// Far more than the most lanes that may exist need.
const BYTES_MAX: u64 = 64 << 20;
const HOUR: u64 = 3_600;
const MODELS: [LimitModel; 6] = [
    LimitModel::FixedWindow,
    LimitModel::AnchoredWindow,
    LimitModel::SlidingWindow,
    LimitModel::TokenBucket,
    LimitModel::Concurrency,
    LimitModel::Unknown,
];
const LEVELS: [Level; 2] = [Level::Credential, Level::Upstream];
const SOURCES: [LimitSource; 4] =
    [LimitSource::Header, LimitSource::Body, LimitSource::Learnt, LimitSource::Configured];

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const WEEK: Duration = Duration::from_hours(7 * 24);

    fn file_of(directory: &Path, upstream: &str) -> StateFile {
        StateFile::new(directory, WEEK, 3, HashSet::from([upstream.into()]))
    }

    fn memory(route: &str, age_seconds: f64) -> Memory {
        let number = MemoryNumber {
            requests: 300.0,
            window_seconds: 60.0,
            model: LimitModel::FixedWindow,
            source: LimitSource::Header,
        };
        Memory {
            upstream: "api:443".into(),
            route: route.into(),
            per: Level::Route,
            age_seconds,
            pace: Rate::new(5.0),
            is_unmet: false,
            number: Some(number),
            budget: Some((300, 60.0)),
        }
    }

    /// The same but for the age, which is kept to the hour.
    fn same(found: &[Memory], expected: &[Memory]) -> bool {
        let near = |one: &Memory, other: &Memory| {
            (one.age_seconds - other.age_seconds).abs() <= 1_801.0
                && Memory { age_seconds: 0.0, ..one.clone() } == Memory { age_seconds: 0.0, ..other.clone() }
        };
        found.len() == expected.len() && found.iter().zip(expected).all(|(one, other)| near(one, other))
    }

    #[test]
    fn what_is_saved_is_recalled() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("a/b");
        let above = Memory { per: Level::Credential, ..memory("", 60.0) };
        let pace = Rate::new(0.1 + 0.2);
        let plain = Memory { number: None, budget: None, pace, is_unmet: true, ..memory("/y", 9e4) };
        let saved = [memory("/x", 0.0), plain, above];
        file_of(&state, "api:443").save(&saved);
        let recalled = file_of(&state, "api:443").recall();
        assert!(same(&recalled, &saved), "{recalled:?}");
        let about = fs::metadata(state.join(FILE)).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 2, "the file and its lock: no draft stays behind");
    }

    #[test]
    fn no_file_is_no_memory_and_nothing_learnt_makes_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = file_of(directory.path(), "api:443");
        assert_eq!(read(&file.path).unwrap(), []);
        assert_eq!(file.recall(), []);
        file.save(&[]);
        assert!(!file.path.exists());
    }

    #[test]
    fn it_is_written_when_something_changed_and_not_otherwise() {
        let directory = tempfile::tempdir().unwrap();
        let file = file_of(directory.path(), "api:443");
        file.save(&[memory("/x", 0.0)]);
        fs::remove_file(&file.path).unwrap();
        file.save(&[memory("/x", 0.0)]);
        assert!(!file.path.exists(), "nothing had changed");
        file.save(&[Memory { pace: Rate::new(6.0), ..memory("/x", 0.0) }]);
        assert!(file.path.exists());
        file.save(&[]);
        assert_eq!(read(&file.path).unwrap(), [], "what an operator had forgotten is gone");
    }

    #[test]
    fn old_entries_are_dropped_and_those_of_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let theirs = Memory { upstream: "other:80".into(), ..memory("/theirs", 60.0) };
        file_of(directory.path(), "other:80").save(std::slice::from_ref(&theirs));
        let old = memory("/old", WEEK.as_secs_f64() + 7_200.0);
        let ours = file_of(directory.path(), "api:443");
        ours.save(&[memory("/x", 60.0), old]);
        assert!(same(&file_of(directory.path(), "api:443").recall(), &[memory("/x", 60.0)]));
        assert!(same(&file_of(directory.path(), "other:80").recall(), &[theirs]));
        let many: Vec<Memory> = (0..9).map(|n| memory(&format!("/{n}"), 60.0)).collect();
        ours.save(&many);
        assert_eq!(read(&ours.path).unwrap().len(), 3, "as many as it may have");
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_age() {
        let entry = Entry::of(&memory("/x", 0.0), wall_now() + WEEK);
        assert_eq!(entry.memory(wall_now()).unwrap().age_seconds.to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn a_file_that_cannot_be_used_is_told_and_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let file = file_of(directory.path(), "api:443");
        file.save(&[memory("/x", 0.0)]);
        let whole = fs::read_to_string(&file.path).unwrap();
        for (text, told) in [
            (String::new(), "damaged"),
            (whole.get(..whole.len() / 2).unwrap().to_owned(), "damaged"),
            ("\0\0\0".to_owned(), "damaged"),
            (whole.replace('2', "\"2\""), "damaged"),
            (whole.replace("\"pace_rps\"", "\"pace\""), "damaged"),
            (
                whole.replace("\"version\": 1", "\"version\": 2"),
                "another version of tidegate wrote it (format 2",
            ),
            (r#"{"version": 7, "other": []}"#.to_owned(), "--state-dir each"),
        ] {
            fs::write(&file.path, &text).unwrap();
            let unusable = read(&file.path).expect_err(&text).to_string();
            assert!(unusable.contains(told), "{text}: {unusable}");
            let anew = file_of(directory.path(), "api:443");
            assert_eq!(anew.recall(), []);
            anew.save(&[memory("/x", 0.0)]);
            assert!(same(&file_of(directory.path(), "api:443").recall(), &[memory("/x", 0.0)]), "{text}");
        }
    }

    #[test]
    fn words_and_numbers_that_mean_no_limit_are_left_out() {
        let now = wall_now();
        let entry = Entry::of(&memory("/x", 0.0), now);
        assert!(entry.memory(now).is_some());
        let of = |number: Number| Entry { number: Some(number), ..entry.clone() }.memory(now);
        let number = entry.number.clone().unwrap();
        assert_eq!(of(Number { model: "spiral".to_owned(), ..number.clone() }), None);
        assert_eq!(of(Number { source: "rumour".to_owned(), ..number }), None);
        assert_eq!(Entry { pace_rps: -1.0, ..entry.clone() }.memory(now), None);
        assert_eq!(Entry { pace_rps: f64::NAN, ..entry }.memory(now), None);
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = file_of(directory.path(), "api:443");
        file.save(&[memory("/x", 0.0)]);
        // A full disk, as far as a test can have one: there is no room for the draft.
        let draft = file.path.with_extension(format!("json.{}", std::process::id()));
        fs::create_dir(&draft).unwrap();
        file.save(&[memory("/y", 0.0)]);
        assert!(file.written.lock().unwrap().failed);
        assert!(same(&file_of(directory.path(), "api:443").recall(), &[memory("/x", 0.0)]));
        fs::remove_dir(&draft).unwrap();
        file.save(&[memory("/y", 0.0)]);
        assert!(
            same(&file_of(directory.path(), "api:443").recall(), &[memory("/y", 0.0)]),
            "it is tried again"
        );
    }

    /// Each reads what is there and writes all of it: without a lock, one would undo what the other wrote in between.
    #[test]
    fn programs_that_share_a_directory_keep_each_other_s_limits() {
        let directory = tempfile::tempdir().unwrap();
        let upstreams = ["a:443", "b:443", "c:443"];
        std::thread::scope(|scope| {
            for upstream in upstreams {
                let directory = directory.path();
                scope.spawn(move || {
                    let file = file_of(directory, upstream);
                    for n in 0..40 {
                        let own = Memory { upstream: upstream.into(), ..memory(&format!("/{n}"), 0.0) };
                        file.save(&[own]);
                    }
                });
            }
        });
        let kept = read(&directory.path().join(FILE)).unwrap();
        let mut found: Vec<_> = kept.iter().map(|entry| (&*entry.upstream, &*entry.route)).collect();
        found.sort_unstable();
        assert_eq!(found, upstreams.map(|upstream| (upstream, "/39")));
    }

    #[test]
    fn a_route_that_only_another_program_knows_is_left_alone_and_one_that_we_forgot_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (file_of(directory.path(), "api:443"), file_of(directory.path(), "api:443"));
        one.save(&[memory("/x", 0.0), memory("/y", 0.0)]);
        other.save(&[memory("/z", 0.0)]);
        one.save(&[memory("/x", 0.0)]);
        let kept = read(&directory.path().join(FILE)).unwrap();
        assert_eq!(kept.iter().map(|entry| &*entry.route).collect::<Vec<_>>(), ["/x", "/z"]);
    }

    #[test]
    fn a_lock_that_another_holds_for_long_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(LOCK);
        let held = lock(&path).unwrap();
        let error = lock(&path).unwrap_err().to_string();
        assert!(error.contains("limits.lock"), "{error}");
        drop(held);
        lock(&path).unwrap();
    }

    /// While one writes, others read: each finds a whole file.
    #[test]
    fn a_reader_never_finds_half_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = file_of(directory.path(), "api:443");
        let long: Vec<Memory> = (0..3).map(|n| memory(&"/x".repeat(2_000 + n), 0.0)).collect();
        file.save(&long);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for n in 0..50 {
                    file.save(if n % 2 == 0 { &long[..1] } else { &long });
                }
            });
            while !writer.is_finished() {
                let count = read(&file.path).unwrap().len();
                assert!(count == 1 || count == 3, "{count}");
            }
        });
    }

    #[test]
    fn a_place_that_cannot_be_written_is_no_reason_to_stop() {
        let directory = tempfile::tempdir().unwrap();
        let occupied = directory.path().join("file");
        fs::write(&occupied, "").unwrap();
        let file = file_of(&occupied, "api:443");
        assert_eq!(file.recall(), []);
        file.save(&[memory("/x", 0.0)]);
        assert!(file.written.lock().unwrap().failed);
    }
}
