//! What a limit tells of itself beside its verdict: the numbers that an API puts into headers.

/// One limit's numbers at one moment, whether the request was let in or not.
///
/// Refused requests are not counted, other tenants' are. Which moment `reset_seconds` means depends on the model,
/// as it does among real APIs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Announced {
    /// Requests that a window allows; with a bucket, how many it holds.
    pub allowed: u32,
    /// Requests counted so far, the present one included if it was let in. More than `allowed` after a limit that
    /// moved down.
    pub used: u32,
    /// Fixed and anchored: until the window ends, 0 if none is open. Sliding: until the oldest request leaves the
    /// window. Bucket: until it is full again. Concurrency: nobody knows.
    pub reset_seconds: Option<f64>,
    /// The window's length; with a bucket, how long an empty one takes to fill. Concurrency has none.
    pub window_seconds: Option<f64>,
}

impl Announced {
    /// Requests that are left.
    pub fn remaining(&self) -> u32 {
        self.allowed.saturating_sub(self.used)
    }

    /// The limit of `all` that has the least left of what it allows, in proportion; of equals, the one that resets
    /// last.
    pub fn tightest(all: &[Self]) -> Option<&Self> {
        let left = |one: &Self| f64::from(one.remaining()) / f64::from(one.allowed.max(1));
        let reset = |one: &Self| one.reset_seconds.unwrap_or_default();
        all.iter()
            .min_by(|one, other| left(one).total_cmp(&left(other)).then(reset(other).total_cmp(&reset(one))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(allowed: u32, used: u32, reset_seconds: f64) -> Announced {
        Announced { allowed, used, reset_seconds: Some(reset_seconds), window_seconds: Some(60.0) }
    }

    #[test]
    fn the_tightest_has_the_least_left_in_proportion() {
        let wide = announced(300, 200, 30.0);
        let narrow = announced(10, 6, 0.5);
        assert_eq!(Announced::tightest(&[narrow, wide]), Some(&wide));
        let spent = announced(10, 10, 0.5);
        assert_eq!(Announced::tightest(&[spent, wide]), Some(&spent));
        let spent_for_long = announced(300, 300, 30.0);
        assert_eq!(Announced::tightest(&[spent, spent_for_long]), Some(&spent_for_long));
        assert_eq!(Announced::tightest(&[]), None);
    }

    #[test]
    fn what_is_left_is_never_less_than_nothing() {
        assert_eq!(announced(5, 8, 1.0).remaining(), 0);
    }
}
