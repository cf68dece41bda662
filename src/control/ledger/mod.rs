//! What rate-limit headers promise: one ledger for each limit that an API announces, and the most restrictive of
//! them.
//!
//! A header is the limit describing itself: as long as the refusals agree, ledgers alone govern a lane, and no refusal
//! has to be paid for to learn anything. It is evidence and not truth: a refusal that no ledger foresaw is a strike, and
//! after two of them the learnt law joins in, so that the more restrictive of both holds. Every attempt counts, the ones
//! of other tenants too ([`others`]).
//!
//! # Why
//! The counters of the API are exact where ours are not: they see who else spends the same budget. Windows of up to two
//! seconds are told by whole seconds too coarsely to be timed by them; there the number goes to the learnt law, which
//! holds it and finds the phase. An "end" that moves on while the count stays (a sliding log that announces its
//! oldest entry, a bucket its next token) is no window: such a ledger is void, and its number goes to the law where its
//! window is told. A bucket is told apart from them by its numbers, and then followed token by token ([`refill`]). A ledger
//! that promises too little would stop a lane for ever, were it never doubted ([`doubt`]).

mod anchor;
mod book;
mod doubt;
mod others;
mod refill;
mod window;

use self::book::{Answered, Book, Known};
use super::announcement::{AnnouncedBy, Announcement};
use super::jitter::Jitter;
use super::law::Answer;
use super::retry::PAUSING_SECONDS;
use super::settings::LawSettings;
use super::ticket::{AnnouncedView, LimitModel, LimitSource, LimitView, TicketHasher};
use std::collections::HashMap;
use std::hash::BuildHasherDefault;

/// Limits that one node keeps ledgers of; a further one takes the place of the one unseen for longest.
const LEDGERS_MAX: usize = 8;
/// Unforeseen refusals after which the learnt law joins in.
const STRIKES_MAX: u32 = 2;
/// Answers without a word of it after which a limit is gone: of any limit, and of the same name with another budget.
const UNSEEN_MAX: u32 = 20;
const RENAMED_MAX: u32 = 5;
/// A refusal is foreseen when this share of the budget or less was left, or so many requests.
const FORESEEN_SHARE: f64 = 0.03;
const FORESEEN_REQUESTS: f64 = 2.0;
/// A Retry-After that ends within this many seconds of the window does so because the window ends.
const SAME_END_SECONDS: f64 = 2.0;

/// The ledgers of one node, and the requests that are out.
#[derive(Clone, Debug)]
pub(super) struct Ledgers {
    books: Vec<Book>,
    flying: HashMap<u64, f64, BuildHasherDefault<TicketHasher>>,
    departures: u64,
    jitter: Jitter,
    /// The API said not before this.
    pause_until: Option<f64>,
    /// The share of each budget that stays unused, and the requests that may leave ahead of the even line.
    headroom: f64,
    at_once: u32,
    /// As often as the operator lets a refused call be paid for.
    probe_period_seconds: f64,
}

/// What an answer says to the law.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Heard {
    /// A refusal that the ledgers foresaw: it teaches the law nothing.
    pub(super) foreseen: bool,
    /// A number for the law to hold, and who says it.
    pub(super) number: Option<(u32, f64, AnnouncedBy)>,
}

impl Default for Ledgers {
    fn default() -> Self {
        Self::new(&LawSettings::default())
    }
}

impl Ledgers {
    /// Nothing is announced yet.
    pub(super) fn new(settings: &LawSettings) -> Self {
        Self {
            books: Vec::new(),
            flying: HashMap::default(),
            departures: 0,
            jitter: Jitter::default(),
            pause_until: None,
            headroom: settings.headroom,
            at_once: settings.at_once(),
            probe_period_seconds: settings.probe_period_seconds,
        }
    }

    /// Nothing is announced, or was.
    pub(super) fn is_empty(&self) -> bool {
        self.books.is_empty()
    }

    /// The ledgers alone say when: there is one, and no refusal contradicts it.
    pub(super) fn govern(&self) -> bool {
        let mut paced = self.timed().filter(|book| book.is_paced()).peekable();
        paced.peek().is_some() && paced.all(|book| book.strikes < STRIKES_MAX)
    }

    fn timed(&self) -> impl Iterator<Item = &Book> {
        self.books.iter().filter(|book| book.is_timed())
    }

    /// One departs. Gives its number.
    pub(super) fn sent(&mut self, now: f64) -> u64 {
        self.departures += 1;
        self.flying.insert(self.departures, now);
        for book in &mut self.books {
            let guard = book.guard(self.jitter.seconds());
            book.sent(now, self.departures, guard);
        }
        self.departures
    }

    /// It did not leave after all.
    pub(super) fn give_back(&mut self, now: f64, departure: u64) {
        self.flying.remove(&departure);
        for book in &mut self.books {
            book.back(departure);
            book.doubt.back(now, departure, false, false);
        }
    }

    /// Its answer, and what that announces.
    pub(super) fn settle(
        &mut self,
        now: f64,
        departure: u64,
        answer: Answer,
        told: &[Announcement],
    ) -> Heard {
        let Some(sent_at) = self.flying.remove(&departure) else { return Heard::default() };
        // Most answers announce nothing, and all that are out have to be looked at.
        let earlier = |at: &&f64| **at < sent_at;
        let flying = if told.is_empty() { 0 } else { self.flying.values().filter(earlier).count() };
        let let_in = matches!(answer, Answer::Accepted);
        if let_in {
            self.jitter.note(now - sent_at);
        }
        let answered = Answered { departure, sent_at, flying, let_in };
        let mut heard = Heard::default();
        for told in told {
            if let Some(number) = self.hear(now, &answered, told) {
                heard.number = Some(number);
            }
        }
        let unsaid = |book: &Book| !told.iter().any(|told| is_of(book, told));
        for book in &mut self.books {
            book.back(departure);
            book.doubt.back(now, departure, let_in, matches!(answer, Answer::Refused { .. }));
            if let_in {
                book.counted(sent_at);
            }
            if unsaid(book) {
                book.unseen = book.unseen.saturating_add(1);
                if let_in {
                    book.accepted_unsaid(sent_at);
                }
            }
        }
        self.retire();
        if let Answer::Refused { retry_after } = answer {
            heard.foreseen = self.refused(now, retry_after);
        }
        heard
    }

    fn hear(
        &mut self,
        now: f64,
        answered: &Answered,
        told: &Announcement,
    ) -> Option<(u32, f64, AnnouncedBy)> {
        if told.source == AnnouncedBy::Body {
            return told.window.map(|window| (told.requests, window.as_secs_f64(), told.source));
        }
        if !self.books.iter().any(|book| is_of(book, told)) {
            let book = Book::new(told, self.probe_period_seconds)?;
            if self.books.len() >= LEDGERS_MAX {
                let eldest =
                    (0..self.books.len()).max_by_key(|at| self.books.get(*at).map(|book| book.unseen));
                self.books.remove(eldest?);
            }
            self.books.push(book.with(self.headroom, self.at_once));
        }
        let jitter = self.jitter.seconds();
        let book = self.books.iter_mut().find(|book| is_of(book, told))?;
        let guard = book.guard(jitter);
        match book.hear(now, answered, told, guard) {
            Known::Number { requests, seconds } => Some((requests, seconds, told.source)),
            Known::Nothing => None,
        }
    }

    /// Drops what is no longer announced: a limit that changed shows as another of the same name.
    fn retire(&mut self) {
        let seen: Vec<_> =
            self.books.iter().map(|book| (book.name.clone(), book.requests, book.unseen)).collect();
        self.books.retain(|book| {
            let renamed = seen.iter().any(|(name, requests, unseen)| {
                *name == book.name && *requests != book.requests && *unseen == 0
            });
            book.unseen < if renamed { RENAMED_MAX } else { UNSEEN_MAX }
        });
    }

    /// A refusal: was it foreseen?
    fn refused(&mut self, now: f64, retry_after: Option<f64>) -> bool {
        let flying = self.flying.len();
        let mut foreseen = false;
        for book in self.books.iter_mut().filter(|book| book.is_timed()) {
            let near = (FORESEEN_SHARE * f64::from(book.requests)).max(FORESEEN_REQUESTS);
            let until_its_end = retry_after.is_some_and(|wait| {
                wait >= SAME_END_SECONDS && (now + wait - book.end()).abs() <= SAME_END_SECONDS
            });
            if book.left(now, flying) <= near || until_its_end {
                book.spent(now);
                foreseen = true;
            }
        }
        if let Some(wait) = retry_after.filter(|wait| foreseen && *wait >= PAUSING_SECONDS) {
            self.pause_until = Some(self.pause_until.map_or(now + wait, |until| until.max(now + wait)));
        }
        if !foreseen {
            for book in self.books.iter_mut().filter(|book| book.is_vouched) {
                book.strikes += 1;
            }
        }
        foreseen
    }

    /// Until when nothing can leave, as far as that is known: the API said so, or a budget is spent.
    pub(super) fn blocked_until(&self) -> f64 {
        let flying = self.flying.len();
        let spent = self.timed().map(|book| book.blocked_until(flying));
        spent.chain(self.pause_until).fold(f64::NEG_INFINITY, f64::max)
    }

    /// When every ledger lets the next one leave, with `waiting` that could.
    pub(super) fn ready_at(&mut self, now: f64, waiting: usize) -> f64 {
        let flying = self.flying.len();
        let mut at = self.pause_until.unwrap_or(f64::NEG_INFINITY);
        for book in &mut self.books {
            let guard = book.guard(self.jitter.seconds());
            at = at.max(book.ready_at(now, waiting, flying, guard));
        }
        at
    }

    /// The slowest ledger's even pace, in requests/s.
    pub(super) fn pace(&self) -> Option<f64> {
        self.timed().map(Book::pace).min_by(f64::total_cmp)
    }

    /// Something else than we spends an announced budget, and how it is shared is still to come out.
    pub(super) fn is_settling(&self) -> bool {
        self.timed().any(Book::is_settling)
    }

    /// The tightest limit in numbers: requests, and the window in seconds.
    pub(super) fn believes(&self) -> Option<(f64, f64)> {
        let book = self.tightest()?;
        Some((f64::from(book.requests), book.seconds()))
    }

    /// Each announced limit as it was last told; of several by one name the newest.
    pub(super) fn views(&self, now: f64) -> Vec<AnnouncedView> {
        let flying = self.flying.len();
        let mut books: Vec<&Book> = self.books.iter().collect();
        books.sort_by(|a, b| a.name.cmp(&b.name).then(a.unseen.cmp(&b.unseen)));
        books.dedup_by(|later, kept| later.name == kept.name);
        books.into_iter().map(|book| book.view(now, flying)).collect()
    }

    fn tightest(&self) -> Option<&Book> {
        self.timed().min_by(|a, b| a.even().total_cmp(&b.even()))
    }

    /// The tightest limit in words.
    pub(super) fn limit(&self) -> Option<LimitView> {
        let book = self.tightest()?;
        let (requests, seconds) = (f64::from(book.requests), book.seconds());
        let others = if book.others() > 0.0 {
            format!("; others spend about {} a minute of it", (60.0 * book.others()).round())
        } else {
            String::new()
        };
        let model = book.model();
        let says = match model {
            LimitModel::TokenBucket => format!(
                "a bucket of {requests} requests that fills at about {:.2} a second, as the API announces ({})",
                book.even(),
                book.name
            ),
            _ => format!("{requests} requests in {seconds} s, as the API announces ({}){others}", book.name),
        };
        Some(LimitView {
            requests,
            window_seconds: seconds,
            model,
            at_least: false,
            source: LimitSource::Header,
            confidence: if book.strikes == 0 { 0.98 } else { 0.5 },
            says,
        })
    }
}

/// Is this the limit that the book is of?
fn is_of(book: &Book, told: &Announcement) -> bool {
    told.source == AnnouncedBy::Header && book.name == told.name && book.requests == told.requests
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Level;
    use std::time::Duration;

    const REFUSED: Answer = Answer::Refused { retry_after: Some(1.0) };

    fn told(requests: u32, used: u32, reset: u64) -> Announcement {
        Announcement {
            name: "inin".into(),
            source: AnnouncedBy::Header,
            requests,
            used: Some(used),
            reset: Some(Duration::from_secs(reset)),
            window: None,
            level: Level::Route,
        }
    }

    /// One request at `at`, answered 50 ms later with `answer` and what it announces.
    fn exchange(ledgers: &mut Ledgers, at: f64, answer: Answer, told: &[Announcement]) -> Heard {
        let departure = ledgers.sent(at);
        ledgers.settle(at + 0.05, departure, answer, told)
    }

    fn whole(tokens: f64) -> u32 {
        (0..=60).rev().find(|whole| f64::from(*whole) <= tokens).unwrap()
    }

    #[test]
    fn a_budget_is_spread_over_what_is_left_of_its_window() {
        let mut ledgers = Ledgers::default();
        assert!(!ledgers.govern());
        exchange(&mut ledgers, 0.0, Answer::Accepted, &[told(300, 150, 31)]);
        assert!(ledgers.govern());
        // 149 of 150 (one is kept until the rounding is known), in 30 s less a guard.
        let next = ledgers.ready_at(0.05, 100);
        assert!((next - 0.2).abs() < 0.01, "{next}");
        assert!(ledgers.ready_at(0.05, 3) < 0.05, "a few go ahead of the line");
    }

    #[test]
    fn a_spent_budget_waits_for_the_end_and_one_goes_ahead() {
        let mut ledgers = Ledgers::default();
        exchange(&mut ledgers, 0.0, Answer::Accepted, &[told(10, 10, 9)]);
        let next = ledgers.ready_at(0.1, 5);
        assert!(next > 9.0 && next < 9.2, "{next}");
        assert!((ledgers.blocked_until() - 9.05).abs() < 0.01);
        // A moment that was rounded to before it is the same.
        let rounded = next - 0.5 * super::super::lane::SAME;
        ledgers.sent(rounded);
        assert!(ledgers.ready_at(rounded, 5) > 10.0, "the others wait for the scout");
    }

    #[test]
    fn a_long_block_is_doubted_once_and_over_when_one_is_let_in() {
        let mut ledgers = Ledgers::default();
        exchange(&mut ledgers, 0.0, Answer::Accepted, &[told(10, 10, 900)]);
        let next = ledgers.ready_at(0.1, 5);
        assert!((next - 10.05).abs() < 0.1, "{next}");
        exchange(&mut ledgers, next, REFUSED, &[told(10, 10, 890)]);
        assert!(ledgers.ready_at(next + 0.1, 5) > 890.0, "it was right");
        let mut ledgers = Ledgers::default();
        exchange(&mut ledgers, 0.0, Answer::Accepted, &[told(10, 10, 900)]);
        let doubted = ledgers.blocked_until();
        exchange(&mut ledgers, doubted, Answer::Accepted, &[told(10, 10, 890)]);
        assert!(!ledgers.govern(), "it was wrong, and counts no more");
        assert!(ledgers.ready_at(10.2, 5) < 10.2);
    }

    #[test]
    fn a_budget_for_a_day_is_no_pace() {
        let mut ledgers = Ledgers::default();
        exchange(&mut ledgers, 0.0, Answer::Accepted, &[told(10_000, 10, 80_000)]);
        assert!(!ledgers.govern());
        assert!(ledgers.ready_at(0.1, 5) < 0.1);
        exchange(&mut ledgers, 1.0, Answer::Accepted, &[told(10_000, 10_000, 79_999)]);
        assert!(ledgers.ready_at(1.1, 5) > 10.0, "but a budget all the same");
    }

    #[test]
    fn a_share_that_is_next_to_nothing_waits_for_the_next_window_at_most() {
        let mut ledgers = Ledgers::default();
        // Others spend 1.5 a second; with 12 left for 20 s there is nothing for us in this window.
        exchange(&mut ledgers, 0.0, Answer::Accepted, &[told(200, 180, 25)]);
        for (at, used, reset) in [(1.0, 183, 24), (2.0, 185, 23), (3.0, 188, 22)] {
            exchange(&mut ledgers, at, Answer::Accepted, &[told(200, used, reset)]);
        }
        for step in 0..20 {
            let next = ledgers.ready_at(3.1 + f64::from(step), 100);
            assert!(next < 26.0, "the window ends after 25 s: {next}");
        }
    }

    #[test]
    fn requests_that_are_out_count_as_spent() {
        let mut ledgers = Ledgers::default();
        exchange(&mut ledgers, 0.0, Answer::Accepted, &[told(10, 5, 20)]);
        for _ in 0..4 {
            ledgers.sent(1.0);
        }
        assert!(ledgers.ready_at(1.0, 5) > 19.0);
    }

    #[test]
    fn a_refusal_that_no_ledger_foresaw_is_a_strike() {
        let mut ledgers = Ledgers::default();
        exchange(&mut ledgers, 0.0, Answer::Accepted, &[told(300, 10, 60)]);
        assert!(!exchange(&mut ledgers, 1.0, REFUSED, &[told(300, 15, 59)]).foreseen);
        assert!(ledgers.govern());
        assert!(!exchange(&mut ledgers, 2.0, REFUSED, &[told(300, 20, 58)]).foreseen);
        assert!(!ledgers.govern(), "two, and the law joins in");
    }

    #[test]
    fn a_refusal_at_the_end_of_the_budget_or_until_the_window_s_end_was_foreseen() {
        let mut ledgers = Ledgers::default();
        exchange(&mut ledgers, 0.0, Answer::Accepted, &[told(300, 299, 30)]);
        assert!(exchange(&mut ledgers, 1.0, REFUSED, &[]).foreseen);
        let mut ledgers = Ledgers::default();
        exchange(&mut ledgers, 0.0, Answer::Accepted, &[told(300, 100, 30)]);
        let until_the_end = Answer::Refused { retry_after: Some(29.0) };
        assert!(exchange(&mut ledgers, 1.0, until_the_end, &[]).foreseen);
        assert!(ledgers.ready_at(1.1, 5) > 29.9);
    }

    #[test]
    fn what_refusals_alone_announce_leaves_the_law_to_learn() {
        let mut ledgers = Ledgers::default();
        let refused = Answer::Refused { retry_after: Some(9.0) };
        assert!(!exchange(&mut ledgers, 0.0, refused, &[told(60, 60, 9)]).foreseen);
        assert!(!ledgers.govern());
        assert!(ledgers.ready_at(0.1, 5) > 8.9, "the budget is spent all the same");
        exchange(&mut ledgers, 9.2, Answer::Accepted, &[]);
        assert!(!exchange(&mut ledgers, 12.0, refused, &[told(60, 60, 7)]).foreseen);
        exchange(&mut ledgers, 19.3, Answer::Accepted, &[told(60, 1, 9)]);
        assert!(ledgers.govern(), "an accepted one says it too");
    }

    #[test]
    fn a_bucket_is_emptied_and_then_followed_without_a_refusal() {
        let mut ledgers = Ledgers::default();
        // Sixty, and five a second; the API tells when it is full again.
        let (mut tokens, mut filled_at, mut at) = (60.0_f64, 0.0, 0.0);
        let mut sent = Vec::new();
        while at < 60.0 {
            tokens = (tokens + 5.0 * (at - filled_at)).min(60.0) - 1.0;
            filled_at = at;
            assert!(tokens >= 0.0, "refused at {at}");
            let announced = Announcement {
                reset: Some(Duration::from_secs_f64(((60.0 - tokens) / 5.0).ceil())),
                ..told(60, 60 - whole(tokens), 0)
            };
            exchange(&mut ledgers, at, Answer::Accepted, &[announced]);
            sent.push(at);
            // Until it is known, the law paces.
            let law = if ledgers.govern() { 0.0 } else { at + 0.05 };
            at = ledgers.ready_at(at + 0.05, 100).max(at + 0.05).max(law);
        }
        let limit = ledgers.limit().unwrap();
        assert_eq!((limit.model, limit.burst()), (LimitModel::TokenBucket, Some(60.0)));
        assert!((limit.requests / limit.window_seconds - 5.0).abs() < 0.25, "{limit:?}");
        let late = sent.iter().filter(|at| **at > 30.0).count();
        assert!((145..=152).contains(&late), "{late}");
    }

    #[test]
    fn a_limit_that_changed_takes_the_place_of_the_old_one() {
        let mut ledgers = Ledgers::default();
        exchange(&mut ledgers, 0.0, Answer::Accepted, &[told(300, 100, 60)]);
        for n in 0..RENAMED_MAX {
            exchange(&mut ledgers, 1.0 + f64::from(n), Answer::Accepted, &[told(150, 101 + n, 58)]);
        }
        assert_eq!(ledgers.believes().map(|(requests, _)| requests), Some(150.0));
        assert_eq!(ledgers.books.len(), 1);
    }

    #[test]
    fn limits_that_take_turns_both_stay() {
        let mut ledgers = Ledgers::default();
        for n in 0..40 {
            let this = if n % 2 == 0 { told(300, 10 + n, 50) } else { told(100, 10 + n, 40) };
            exchange(&mut ledgers, 0.1 * f64::from(n), Answer::Accepted, &[this]);
        }
        assert_eq!(ledgers.books.len(), 2);
    }

    #[test]
    fn a_body_s_number_goes_to_the_law_and_ledgers_are_bounded() {
        let mut ledgers = Ledgers::default();
        let body = Announcement {
            source: AnnouncedBy::Body,
            window: Some(Duration::from_mins(1)),
            ..told(300, 300, 0)
        };
        let heard = exchange(&mut ledgers, 0.0, REFUSED, &[body]);
        assert_eq!(heard.number, Some((300, 60.0, AnnouncedBy::Body)));
        for n in 1..100 {
            exchange(&mut ledgers, f64::from(n), Answer::Accepted, &[told(1_000 + n, 1, 60)]);
        }
        assert!(ledgers.books.len() <= LEDGERS_MAX);
    }

    #[test]
    fn an_end_that_moves_on_is_no_window() {
        let mut ledgers = Ledgers::default();
        for n in 0..6_u32 {
            let at = 2.0 * f64::from(n);
            exchange(&mut ledgers, at, Answer::Accepted, &[told(300, 100 + n, 30 + u64::from(4 * n))]);
        }
        assert!(!ledgers.govern());
    }
}
