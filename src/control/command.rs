//! What an operator may tell a lane while it runs.

use super::Rate;
use std::time::Duration;

/// One order to one lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Command {
    /// Go at this pace, whatever the law says, until told otherwise. Pauses of two seconds or more that the API asks
    /// for still hold, and so does a configured ceiling.
    Pin(Rate),
    /// Let nothing leave: for so long, or until [`Command::Resume`].
    Pause(Option<Duration>),
    /// End a pause (the API's too) and a pin: the law decides again, from what it knows.
    Resume,
    /// Forget what was learnt of the limit, and a pin and a pause: start over.
    Forget,
}
